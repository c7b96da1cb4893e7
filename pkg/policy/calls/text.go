package calls

import "unsafe"

// methodOf returns what is kept of a method.
func methodOf(m string) string {
	if m == "" || len(m) > maxMethod {
		return AnyMethod
	}
	for i := range len(m) {
		if c := m[i]; !('A' <= c && c <= 'Z') && c != '-' && c != '_' {
			return AnyMethod
		}
	}
	return m
}

// hostOf writes the host of an authority to buf, in lower case and without its port. It
// returns "" for one that is too long, or has characters that no host has.
func hostOf(buf *[maxHost]byte, authority string) string {
	out := buf[:0]
	bracket := false
	for i := range len(authority) {
		c := authority[i]
		switch {
		case c == '[' && i == 0:
			bracket = true
		case c == ']' && bracket:
			bracket = false
		case c == ':' && !bracket:
			return unsafeString(out)
		case 'A' <= c && c <= 'Z':
			c += 'a' - 'A'
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '.', c == '-', c == '_', c == ':':
		default:
			return ""
		}
		if len(out) == maxHost {
			return ""
		}
		out = append(out, c)
	}
	return unsafeString(out)
}

// unsafeString returns the string in b, which is valid as long as b is not changed.
func unsafeString(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
