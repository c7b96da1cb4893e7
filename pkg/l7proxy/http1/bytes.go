package http1

import "encoding/binary"

// Classes of bytes: the bits in class.
const (
	cToken  = 1 << iota // tchar (RFC 9110 §5.6.2)
	cValue              // field values, reason phrases: HTAB, SP, VCHAR, obs-text
	cTarget             // request target: VCHAR except '#', and obs-text, which servers accept
	cHost               // reg-name: unreserved, sub-delims, '%' (RFC 3986 §3.2.2)
	cIPv6               // the address between brackets
	cDigit
)

var class = func() (t [256]uint8) {
	mark := func(bit uint8, chars string) {
		for _, c := range []byte(chars) {
			t[c] |= bit
		}
	}
	const (
		digits  = "0123456789"
		letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	)
	mark(cToken, "!#$%&'*+-.^_`|~"+digits+letters)
	mark(cHost, "-._~!$&'()*+,;=%"+digits+letters)
	mark(cIPv6, "-._~:%"+digits+letters)
	mark(cDigit, digits)
	mark(cValue, "\t ")
	for c := 0x21; c < 0x100; c++ {
		if c != 0x7f {
			t[c] |= cValue
			if c != '#' {
				t[c] |= cTarget
			}
		}
	}
	return t
}()

// indexNot returns the index of the first byte of b outside the class, or -1.
func indexNot(b []byte, bit uint8) int {
	for i, c := range b {
		if class[c]&bit == 0 {
			return i
		}
	}
	return -1
}

// indexControl is indexNot for cValue, eight bytes at a time: the values are most of a head.
func indexControl(b []byte) int {
	const (
		ones = 0x0101010101010101
		high = 0x80 * ones
	)
	i := 0
	for ; len(b)-i >= 8; i += 8 {
		x := binary.LittleEndian.Uint64(b[i:])
		del := x ^ 0x7f*ones
		// Is there a byte below 0x20, or one that is 0x7f (Anderson, Bit Twiddling Hacks)?
		if ((x-0x20*ones)&^x|(del-ones)&^del)&high == 0 {
			continue
		}
		if at := indexNot(b[i:i+8], cValue); at >= 0 { // it may be a tab
			return i + at
		}
	}
	if at := indexNot(b[i:], cValue); at >= 0 {
		return i + at
	}
	return -1
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// equalFold compares b with s, regardless of ASCII case.
func equalFold[S string | []byte](b []byte, s S) bool {
	if len(b) != len(s) {
		return false
	}
	for i := range b {
		if b[i] != s[i] && lower(b[i]) != lower(s[i]) {
			return false
		}
	}
	return true
}

// Alike reports whether applications may take two names of fields for the same: CGI, WSGI and PHP
// make X_USER of x-user and of x_user.
func Alike[S, T string | []byte](a S, b T) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if x, y := underscored(a[i]), underscored(b[i]); x != y {
			return false
		}
	}
	return true
}

func underscored(c byte) byte {
	if c == '-' {
		return '_'
	}
	return lower(c)
}

// trimOWS removes optional white space (RFC 9110 §5.6.3) from both ends of buf[from:to].
func trimOWS(buf []byte, from, to int) (int, int) {
	for from < to && (buf[from] == ' ' || buf[from] == '\t') {
		from++
	}
	for from < to && (buf[to-1] == ' ' || buf[to-1] == '\t') {
		to--
	}
	return from, to
}

// nextElement splits the first element from a comma-separated list (RFC 9110 §5.6.1).
// Elements may be empty. ok is false at the end of the list.
func nextElement(list []byte) (element, rest []byte, ok bool) {
	if list == nil {
		return nil, nil, false
	}
	end, rest := len(list), nil
	for i, c := range list {
		if c == ',' {
			end, rest = i, list[i+1:]
			break
		}
	}
	from, to := trimOWS(list, 0, end)
	return list[from:to], rest, true
}
