package render

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Clean replaces control characters and invalid UTF-8 with '?'. Text from the
// wire, such as a path, must not break a line or control a terminal.
func Clean(s string) string { return strings.Map(cleanRune, s) }

func cleanRune(r rune) rune {
	if unicode.IsControl(r) || r == utf8.RuneError {
		return '?'
	}
	return r
}
