package http2

import (
	"net/netip"
	"strings"
)

// Pseudo-header fields must match the grammar of the request line and of Host in
// HTTP/1.1, because a server behind the proxy may translate them to HTTP/1.1.

// validTarget: no space, no control character, no fragment.
func validTarget(s string) bool {
	for i := range len(s) {
		if b := s[i]; b <= ' ' || b == 0x7f || b == '#' {
			return false
		}
	}
	return true
}

// validAuthority: uri-host [ ":" port ], or empty if no port is required (RFC 9110 §7.2,
// RFC 3986 §3.2.2). User information is refused (RFC 9113 §8.3.1). An IPv6 address
// without brackets is accepted if no port is required.
func validAuthority(s string, needPort bool) bool {
	if s == "" {
		return !needPort
	}
	return plainAuthority(s, needPort) || !needPort && bareAddress(s)
}

func plainAuthority(s string, needPort bool) bool {
	host, port, allowed := s, "", &hostChar
	if s[0] == '[' {
		end := strings.IndexByte(s, ']')
		if end < 0 {
			return false
		}
		host, port, allowed = s[1:end], s[end+1:], &addressChar
	} else if i := strings.IndexByte(s, ':'); i >= 0 {
		host, port = s[:i], s[i:]
	}
	if host == "" || !consistsOf(host, allowed) {
		return false
	}
	if port == "" {
		return !needPort
	}
	digits := port[1:]
	return port[0] == ':' && consistsOf(digits, &digitChar) && len(digits) <= 5 && (digits != "" || !needPort)
}

// bareAddress reports whether s is an IPv6 address without brackets, with or without a
// port. Node's client sends [::1]:8080 as "::1:8080" (lib/internal/http2/core.js). RFC
// 3986 does not allow it, but the servers of Node and Go accept it. (nginx refuses it.)
// So the server decides. It is ambiguous whether the last number is a port, but the
// proxy does not need to know: no hostname of a route matches, and CONNECT, for which it
// would matter, is malformed with such an authority.
func bareAddress(s string) bool {
	if s[0] == '[' || strings.Count(s, ":") < 2 {
		return false
	}
	if ip, err := netip.ParseAddr(s); err == nil {
		return ip.Zone() == ""
	}
	i := strings.LastIndexByte(s, ':')
	ip, err := netip.ParseAddr(s[:i])
	port := s[i+1:]
	return err == nil && ip.Is6() && ip.Zone() == "" && port != "" && len(port) <= 5 && consistsOf(port, &digitChar)
}

const (
	digits  = "0123456789"
	letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
)

var (
	hostChar    = charSet("-._~!$&'()*+,;=%" + digits + letters) // reg-name
	addressChar = charSet("-._~:%" + digits + letters)           // between brackets
	digitChar   = charSet(digits)
)

func charSet(chars string) (t [256]bool) {
	for i := range len(chars) {
		t[chars[i]] = true
	}
	return t
}

func consistsOf(s string, set *[256]bool) bool {
	for i := range len(s) {
		if !set[s[i]] {
			return false
		}
	}
	return true
}
