package http1

import (
	"bytes"
	"net/netip"
)

// parseTarget parses the request target according to its form (RFC 9112 §3.2).
func (h *Head) parseTarget() error {
	target, from := h.Target(), h.target.from
	if len(target) == 0 {
		return syntax(int(from), "the request line has no target")
	}
	if i := indexNot(target, cTarget); i >= 0 {
		return syntax(int(from)+i, "the target has a space, a control byte or a fragment")
	}
	switch connect := string(h.Method()) == "CONNECT"; {
	case connect && !validAuthority(target, true):
		return syntax(int(from), "the target of CONNECT is not a host and port")
	case connect:
		h.authHost = h.target
		h.path = span{h.target.to, h.target.to}
	case target[0] == '/':
		h.path = h.target
	case len(target) == 1 && target[0] == '*' && string(h.Method()) == "OPTIONS":
		h.path = h.target
	default:
		return h.parseAbsolute(target)
	}
	return nil
}

// parseAbsolute: scheme "://" authority path-abempty [ "?" query ]. User
// information is refused (RFC 9110 §4.2.4).
func (h *Head) parseAbsolute(target []byte) error {
	from := h.target.from
	scheme := bytes.Index(target, []byte("://"))
	if scheme <= 0 || !isScheme(target[:scheme]) {
		return syntax(int(from), "the target is not a path and not an absolute URI")
	}
	host := scheme + len("://")
	end := len(target)
	if i := bytes.IndexAny(target[host:], "/?"); i >= 0 {
		end = host + i
	}
	if !validAuthority(target[host:end], false) {
		return syntax(int(from)+host, "the target's authority is not a host and port")
	}
	h.authHost = span{from + uint16(host), from + uint16(end)}
	h.path = span{h.authHost.to, h.target.to}
	return nil
}

func isScheme(b []byte) bool {
	for i, c := range b {
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		if !letter && (i == 0 || class[c]&cDigit == 0 && c != '+' && c != '-' && c != '.') {
			return false
		}
	}
	return true
}

// validAuthority: uri-host [ ":" port ] with a non-empty host (RFC 9110 §7.2, RFC 3986
// §3.2.2).
func validAuthority(b []byte, needPort bool) bool {
	var host, port []byte
	allowed := uint8(cHost)
	if len(b) > 0 && b[0] == '[' {
		end := bytes.IndexByte(b, ']')
		if end < 0 {
			return false
		}
		host, port, allowed = b[1:end], b[end+1:], cIPv6
	} else {
		end := bytes.IndexByte(b, ':')
		if end < 0 {
			end = len(b)
		}
		host, port = b[:end], b[end:]
	}
	if len(host) == 0 || indexNot(host, allowed) >= 0 {
		return false
	}
	if len(port) == 0 {
		return !needPort
	}
	digits := port[1:]
	return port[0] == ':' && indexNot(digits, cDigit) < 0 && len(digits) <= 5 && (len(digits) > 0 || !needPort)
}

// bareAddress reports whether a value of Host is an IPv6 address without brackets, with
// or without a port. Some clients (paho) send [fd00::1]:8080 as fd00::1:8080. RFC 3986 does
// not allow it, but most servers accept it, so the server decides. Whether the last number
// is a port is ambiguous, but the proxy does not need to know: no hostname of a route
// matches, and a target is not read so (CONNECT, absolute form). No parser can find the
// end of a field or of a message in it.
func bareAddress(b []byte) bool {
	if bytes.Count(b, []byte(":")) < 2 {
		return false
	}
	if ip, err := netip.ParseAddr(string(b)); err == nil {
		return ip.Zone() == ""
	}
	i := bytes.LastIndexByte(b, ':')
	ip, err := netip.ParseAddr(string(b[:i]))
	port := b[i+1:]
	return err == nil && ip.Is6() && ip.Zone() == "" && len(port) > 0 && len(port) <= 5 && indexNot(port, cDigit) < 0
}
