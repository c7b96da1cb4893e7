package render

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Clean replaces control characters and broken UTF-8 with '?': a path comes
// from the wire and must neither break a line nor steer a terminal.
func Clean(s string) string { return strings.Map(cleanRune, s) }

func cleanRune(r rune) rune {
	if unicode.IsControl(r) || r == utf8.RuneError {
		return '?'
	}
	return r
}
