package http2

import "strings"

// Pseudo-header fields are held to the grammar of the request line and of Host
// in HTTP/1.1: what is behind may write them there.

// validTarget: no space, control character or fragment.
func validTarget(s string) bool {
	for i := range len(s) {
		if b := s[i]; b <= ' ' || b == 0x7f || b == '#' {
			return false
		}
	}
	return true
}

// validAuthority: uri-host [ ":" port ], or nothing unless a port is needed (RFC
// 9110 §7.2, RFC 3986 §3.2.2). User information is refused (RFC 9113 §8.3.1).
func validAuthority(s string, needPort bool) bool {
	if s == "" {
		return !needPort
	}
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
