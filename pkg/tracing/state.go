package tracing

import "strings"

// maxMembers is the largest number of members of a tracestate (W3C Trace Context §3.3.1.1).
const maxMembers = 32

// validState reports whether the values of the tracestate headers are, together, a list of
// the form that W3C Trace Context §3.3 gives.
func validState(values []string) bool {
	var keys [maxMembers]string
	n := 0
	for _, value := range values {
		for member := range strings.SplitSeq(value, ",") {
			member = strings.Trim(member, " \t")
			if member == "" {
				continue
			}
			key, v, ok := strings.Cut(member, "=")
			if !ok || n == maxMembers || !validKey(key) || !validValue(v) {
				return false
			}
			for _, k := range keys[:n] {
				if k == key {
					return false
				}
			}
			keys[n] = key
			n++
		}
	}
	return true
}

// validKey checks a key: simple, or of a system with several tenants (§3.3.1.3.1).
func validKey(key string) bool {
	tenant, system, several := strings.Cut(key, "@")
	if !several {
		return len(key) <= 256 && keyChars(key) && lower(key[0])
	}
	return len(tenant) <= 241 && keyChars(tenant) && len(system) <= 14 && keyChars(system) && lower(system[0])
}

func lower(c byte) bool { return 'a' <= c && c <= 'z' }

// keyChars reports whether s is not empty and has the characters of keys. Level 2 lets
// keys begin with a digit if they have a tenant.
func keyChars(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !lower(c) && !('0' <= c && c <= '9') && (i == 0 || c != '_' && c != '-' && c != '*' && c != '/') {
			return false
		}
	}
	return s != ""
}

// validValue checks a value: up to 256 printable characters of ASCII, without comma and
// equals sign, and not ending in a space (§3.3.1.3.2).
func validValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == ',' || c == '=' {
			return false
		}
	}
	return s != "" && len(s) <= 256 && s[len(s)-1] != ' '
}
