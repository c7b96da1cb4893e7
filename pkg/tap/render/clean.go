package render

import (
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Clean returns s with everything escaped that a terminal would not show as a character
// of its own: control characters, ESC among them, the characters that turn the direction
// of text or have no width, and spaces other than ' '. Text from the wire, such as a path,
// must not break a line, control a terminal, or look like other text.
//
// An escape has the form of JSON, \u202e, with a pair of them for a character above U+FFFF.
// Bytes that are not UTF-8 become '?'.
func Clean(s string) string {
	for _, r := range s {
		if !plain(r) {
			return string(AppendClean(make([]byte, 0, len(s)+16), s))
		}
	}
	return s
}

// AppendClean appends s to dst, as Clean returns it.
func AppendClean[T ~string | ~[]byte](dst []byte, s T) []byte {
	for _, r := range string(s) {
		dst = AppendRune(dst, r)
	}
	return dst
}

// AppendRune appends r to dst, escaped as by Clean.
func AppendRune(dst []byte, r rune) []byte {
	switch {
	case plain(r):
		return utf8.AppendRune(dst, r)
	case r == utf8.RuneError:
		return append(dst, '?')
	case r > 0xffff:
		high, low := utf16.EncodeRune(r)
		return escape(escape(dst, high), low)
	}
	return escape(dst, r)
}

// plain reports whether a terminal shows r as a character of its own.
func plain(r rune) bool {
	if r < utf8.RuneSelf {
		return ' ' <= r && r < 0x7f
	}
	return r != utf8.RuneError && unicode.IsPrint(r) && !unicode.In(r, invisible...)
}

// invisible are the printable characters that are not shown. unicode.IsPrint is false of
// the format characters (Cf), such as U+202E, and of all spaces but ' '.
var invisible = []*unicode.RangeTable{
	unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector,
	{R16: []unicode.Range16{{Lo: 0x2800, Hi: 0x2800, Stride: 1}}}, // Braille without dots
}

func escape(dst []byte, r rune) []byte {
	const hex = "0123456789abcdef"
	return append(dst, '\\', 'u', hex[r>>12&15], hex[r>>8&15], hex[r>>4&15], hex[r&15])
}
