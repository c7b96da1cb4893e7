package render

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"/api/v1?q=1&x=%20":                       "/api/v1?q=1&x=%20",
		"Größe 東京 ☃ 🙂 é":                          "Größe 東京 ☃ 🙂 é",
		"\x1b[2J\x1b]0;title\x07":                 `\u001b[2J\u001b]0;title\u0007`,
		"a\r\n\tb\x00\x7f":                        `a\u000d\u000a\u0009b\u0000\u007f`,
		"\u009b31m":                               `\u009b31m`, // C1: CSI in one character
		"a\u202eb\u2066c\u2069\u200f\u061c\u200e": `a\u202eb\u2066c\u2069\u200f\u061c\u200e`,
		"pay\u200bpal\u200d\ufeff\u2060\u00ad":    `pay\u200bpal\u200d\ufeff\u2060\u00ad`,
		"a\u00a0b\u3000c\u2028d\u2029e":           `a\u00a0b\u3000c\u2028d\u2029e`,
		"\u3164\u115f\u2800\ufe0f\u034f":          `\u3164\u115f\u2800\ufe0f\u034f`, // letters and marks that are not shown
		"\U000e0041\U000e0100\U0010ffff":          `\udb40\udc41\udb40\udd00\udbff\udfff`,
		"\xff\xc3":                                "??",
		"":                                        "",
	} {
		if got := Clean(in); got != want {
			t.Errorf("Clean(%+q) = %+q, want %+q", in, got, want)
		}
		if got := string(AppendClean([]byte("x"), []byte(in))); got != "x"+want {
			t.Errorf("AppendClean(%+q) = %+q", in, got)
		}
	}
}

// FuzzClean: what comes out is shown as it is, and means in JSON what went in.
func FuzzClean(f *testing.F) {
	for _, s := range []string{"/x", "\x1b\u202e", "\U000e0041", "\xff", "\\\""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		out := Clean(s)
		if Clean(out) != out {
			t.Errorf("%+q is cleaned to %+q, and that to %+q", s, out, Clean(out))
		}
		if !utf8.ValidString(s) || strings.ContainsAny(s, `\"`) {
			return
		}
		var back string
		if err := json.Unmarshal(fmt.Appendf(nil, `"%s"`, out), &back); err != nil || back != s {
			t.Errorf("%+q is cleaned to %+q, which is %+q in JSON, %v", s, out, back, err)
		}
	})
}

func BenchmarkClean(b *testing.B) {
	for b.Loop() {
		Clean("/api/v1/namespaces/default/pods?limit=500")
	}
}
