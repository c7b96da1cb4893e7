package http2

import "strings"

// request has the properties of a request head that the engine needs.
type request struct {
	contentLength int64 // -1: none
	connect       bool
}

// checkRequest validates a request's field section (RFC 9113 §8.2, §8.3.1). extended says
// whether CONNECT may have a :protocol (RFC 8441). reason says why the request is
// malformed; it is "" if it is valid.
func checkRequest(fields []Field, extended bool) (req request, reason string) {
	req.contentLength = -1
	var method, scheme, path, authority, protocol, host *string
	pseudo := true
	for i := range fields {
		f := &fields[i]
		if !strings.HasPrefix(f.Name, ":") {
			pseudo = false
			if !checkField(f, f.Name != "host" && f.Name != "content-length") || !noteLength(f, &req.contentLength) {
				return req, "malformed field"
			}
			if f.Name == "host" {
				if host != nil {
					return req, "duplicate host"
				}
				host = &f.Value
			}
			continue
		}
		if !pseudo {
			return req, "pseudo-header field after a field"
		}
		if !validValue(f.Value) {
			return req, "malformed pseudo-header field"
		}
		var p **string
		switch f.Name {
		case ":method":
			p = &method
		case ":scheme":
			p = &scheme
		case ":path":
			p = &path
		case ":authority":
			p = &authority
		case ":protocol": // RFC 8441
			p = &protocol
		default:
			return req, "unknown pseudo-header field"
		}
		if *p != nil {
			return req, "duplicate pseudo-header field"
		}
		*p = &f.Value
	}
	switch {
	case method == nil || !validToken(*method):
		return req, "missing or invalid :method"
	case authority != nil && !validAuthority(*authority, false), host != nil && !validAuthority(*host, false):
		return req, "the authority is not a host and port"
	case authority != nil && host != nil && !strings.EqualFold(*authority, *host):
		return req, "host differs from :authority"
	}
	req.connect = *method == "CONNECT"
	switch {
	case req.connect && protocol == nil:
		// RFC 9113 §8.5
		if scheme != nil || path != nil || authority == nil || !validAuthority(*authority, true) {
			return req, "CONNECT with other than :method and a host and port in :authority"
		}
		return req, ""
	case protocol != nil && (!req.connect || !extended || !validToken(*protocol)):
		return req, "invalid :protocol"
	case scheme == nil || !validScheme(*scheme) || path == nil:
		return req, "missing :scheme or :path"
	case !validTarget(*path):
		return req, "invalid :path"
	case *scheme == "http" || *scheme == "https":
		if !strings.HasPrefix(*path, "/") && !(*path == "*" && *method == "OPTIONS") {
			return req, "invalid :path"
		}
	}
	return req, ""
}

// checkResponse validates a response's field section (RFC 9113 §8.3.2).
func checkResponse(fields []Field) (status int, contentLength int64, ok bool) {
	contentLength = -1
	if len(fields) == 0 || fields[0].Name != ":status" || !validStatus(fields[0].Value) {
		return 0, 0, false
	}
	v := fields[0].Value
	status = int(v[0]-'0')*100 + int(v[1]-'0')*10 + int(v[2]-'0')
	for i := range fields[1:] {
		f := &fields[1+i]
		if !checkField(f, true) || !noteLength(f, &contentLength) {
			return 0, 0, false
		}
	}
	return status, contentLength, status != 101 // §8.6
}

// checkTrailers validates a trailer section: no pseudo-header field (§8.1).
func checkTrailers(fields []Field) bool {
	for i := range fields {
		if !checkField(&fields[i], true) {
			return false
		}
	}
	return true
}

// checkField validates one regular field (§8.2.1, §8.2.2). With trim it strips white
// space from the value. Pseudo-header fields fail, because ':' is no token character.
func checkField(f *Field, trim bool) bool {
	if !validName(f.Name) || !validValue(f.Value) && !(trim && trimValue(f)) {
		return false
	}
	switch f.Name {
	case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade":
		return false
	case "te":
		return strings.EqualFold(f.Value, "trailers")
	}
	return true
}

// trimValue strips white space from both ends of an invalid value, and reports whether
// the value is valid then. RFC 9113 §8.2.1 forbids the white space, and it is not part of
// the value (RFC 9110 §5.5). But peers send it in response fields, gRPC metadata and
// grpc-message, and other implementations strip it or accept it. Because it is stripped
// before any other check, all readers see the same value. White space still makes a
// message malformed where it has been used to hide a field: around names, and around a
// request's pseudo-header fields, host and content-length.
func trimValue(f *Field) bool {
	f.Value = strings.Trim(f.Value, " \t")
	return validValue(f.Value)
}

// noteLength stores content-length in *length. Different values are malformed (RFC 9110
// §8.6).
func noteLength(f *Field, length *int64) bool {
	if f.Name != "content-length" {
		return true
	}
	n := int64(0)
	for _, d := range []byte(f.Value) {
		if d < '0' || d > '9' || n > (1<<62)/10 {
			return false
		}
		n = n*10 + int64(d-'0')
	}
	if f.Value == "" || *length >= 0 && *length != n {
		return false
	}
	*length = n
	return true
}

func validStatus(v string) bool {
	return len(v) == 3 && v[0] >= '1' && v[0] <= '9' && v[1] >= '0' && v[1] <= '9' && v[2] >= '0' && v[2] <= '9'
}

// tokenChar is tchar (RFC 9110 §5.6.2).
var tokenChar = charSet("!#$%&'*+-.^_`|~" + digits + letters)

func validToken(s string) bool { return s != "" && consistsOf(s, &tokenChar) }

// validName: a token without upper case letters (RFC 9113 §8.2.1).
func validName(s string) bool {
	for i := range len(s) {
		if b := s[i]; !tokenChar[b] || 'A' <= b && b <= 'Z' {
			return false
		}
	}
	return s != ""
}

// validValue: no control character, and no white space at either end (RFC 9113 §8.2.1).
// The RFC forbids only NUL, CR and LF; the other control characters have no meaning in a
// field either (RFC 9110 §5.5), and HTTP/1 cannot carry them.
func validValue(s string) bool {
	if s == "" {
		return true
	}
	if isSpace(s[0]) || isSpace(s[len(s)-1]) {
		return false
	}
	for i := range len(s) {
		if b := s[i]; b < ' ' && b != '\t' || b == 0x7f {
			return false
		}
	}
	return true
}

func isSpace(b byte) bool { return b == ' ' || b == '\t' }

// validScheme: RFC 3986 §3.1.
func validScheme(s string) bool {
	for i := range len(s) {
		b := s[i]
		letter := 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z'
		if !letter && (i == 0 || !('0' <= b && b <= '9' || b == '+' || b == '-' || b == '.')) {
			return false
		}
	}
	return s != ""
}
