package cli

import (
	"io"
	"unicode/utf8"

	"github.com/underlane/underlane/pkg/tap/render"
)

// terminal is a writer that escapes what could control a terminal or mislead its reader,
// as render.Clean does, but for newlines and tabs. Names, paths and messages that a command
// prints may be of strangers. In JSON the escapes stand within strings, where they mean the
// same characters.
type terminal struct {
	w       io.Writer
	pending []byte // the beginning of a character
	out     []byte
}

// Terminal returns a writer that escapes what is written to w.
func Terminal(w io.Writer) io.Writer { return &terminal{w: w} }

// Raw returns the writer that w writes to, if w is one of Terminal, and otherwise w. It is
// for output that the command makes itself, for programs.
func Raw(w io.Writer) io.Writer {
	if t, ok := w.(*terminal); ok {
		return t.w
	}
	return w
}

// Write writes p. A character whose last bytes are missing is written with the next ones.
func (t *terminal) Write(p []byte) (int, error) {
	t.out = t.out[:0]
	text := p
	if len(t.pending) > 0 {
		text = append(t.pending, p...)
		t.pending = nil
	}
	for len(text) > 0 {
		if !utf8.FullRune(text) {
			t.pending = append([]byte(nil), text...)
			break
		}
		r, n := utf8.DecodeRune(text)
		if r == '\n' || r == '\t' {
			t.out = append(t.out, byte(r))
		} else {
			t.out = render.AppendRune(t.out, r)
		}
		text = text[n:]
	}
	if _, err := t.w.Write(t.out); err != nil {
		return 0, err
	}
	return len(p), nil
}
