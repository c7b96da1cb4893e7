package cli

import (
	"bytes"
	"encoding/json"
	"io"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

const hostile = "/\x1b[2J\u202egpj.exe\u009b31m\u200b\U000e0041\x7f é"

func TestTerminal(t *testing.T) {
	text := "req :path=" + hostile + "\n\tend\r\xff\n"
	want := "req :path=/\\u001b[2J\\u202egpj.exe\\u009b31m\\u200b\\udb40\\udc41\\u007f é\n\tend\\u000d?\n"
	var whole, bytewise bytes.Buffer
	w := Terminal(&whole)
	if n, err := io.WriteString(w, text); n != len(text) || err != nil {
		t.Errorf("Write = %d, %v; want %d", n, err, len(text))
	}
	if Raw(w) != &whole || Raw(&whole) != &whole {
		t.Error("Raw does not return the writer below")
	}
	if _, err := io.Copy(struct{ io.Writer }{Terminal(&bytewise)}, iotest.OneByteReader(bytes.NewReader([]byte(text)))); err != nil {
		t.Error(err)
	}
	for name, got := range map[string]string{"at once": whole.String(), "byte by byte": bytewise.String()} {
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestTerminalKeepsJSON: a program reads the same values, and a terminal shows no
// character of strangers that does something.
func TestTerminalKeepsJSON(t *testing.T) {
	in := map[string]any{"path": hostile, hostile: []any{"x\n\t", 1.5, nil, "\u2028"}}
	var out bytes.Buffer
	enc := json.NewEncoder(Terminal(&out))
	enc.SetIndent("", "\t")
	if err := enc.Encode(in); err != nil {
		t.Fatal(err)
	}
	for _, b := range []string{"\x1b", "\u202e", "\u009b", "\u200b", "\x7f", "\U000e0041"} {
		if bytes.Contains(out.Bytes(), []byte(b)) {
			t.Errorf("%+q is in the output", b)
		}
	}
	var back map[string]any
	if err := json.Unmarshal(out.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(in, back); diff != "" {
		t.Errorf("read back (-want +got):\n%s", diff)
	}
}
