package route

import "strings"

func (m *valueMatch) fitsQuery(query string) fit {
	if m.unknown {
		return yes
	}
	value, ok := parameter(query, m.name)
	if !ok {
		return no
	}
	if m.pattern == nil {
		return fits(equalDecoded(value, m.value))
	}
	if strings.IndexByte(value, '%') >= 0 || strings.IndexByte(value, '+') >= 0 {
		value = decoded(value)
	}
	return m.pattern.judge(value)
}

// parameter returns the value of the first parameter with that name, still
// encoded.
func parameter(query, name string) (value string, ok bool) {
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		key, value, _ := strings.Cut(pair, "=")
		if pair != "" && equalDecoded(key, name) {
			return value, true
		}
	}
	return "", false
}

// Ambiguous reports whether a query has several values of a parameter, of which servers read
// one or the other.
func Ambiguous(query, name string) bool {
	first, ok := parameter(query, name)
	for ok && query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		key, value, _ := strings.Cut(pair, "=")
		if pair != "" && equalDecoded(key, name) && value != first {
			return true
		}
	}
	return false
}

// nextDecoded decodes the first byte of s, a part of a query
// (application/x-www-form-urlencoded), and returns the length of its encoding. A
// '%' without two hexadecimal digits after it stands for itself.
func nextDecoded(s string) (c byte, n int) {
	switch {
	case s[0] == '+':
		return ' ', 1
	case s[0] == '%' && len(s) >= 3:
		high, low := unhex(s[1]), unhex(s[2])
		if high < 16 && low < 16 {
			return high<<4 | low, 3
		}
	}
	return s[0], 1
}

func unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10
	}
	return 16
}

// equalDecoded reports whether encoded, once decoded, equals plain.
func equalDecoded(encoded, plain string) bool {
	for encoded != "" {
		c, n := nextDecoded(encoded)
		if plain == "" || c != plain[0] {
			return false
		}
		encoded, plain = encoded[n:], plain[1:]
	}
	return plain == ""
}

func decoded(s string) string {
	out := make([]byte, 0, len(s))
	for s != "" {
		c, n := nextDecoded(s)
		out = append(out, c)
		s = s[n:]
	}
	return string(out)
}
