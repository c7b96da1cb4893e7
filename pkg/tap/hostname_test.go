package tap

import (
	"strings"
	"testing"
)

func TestHostname(t *testing.T) {
	for text, want := range map[string]string{
		"example.com": "example.com", "API.Example.com:443": "api.example.com", "example.com.": "example.com",
		"my_svc.shop:80": "my_svc.shop", "a1": "a1", "10.0.0.1.nip.io": "10.0.0.1.nip.io",
		"": "", "a..": "", ":80": "", ".": "", "a..b": "", ".a": "", "10.0.0.1": "", "10.0.0.1:80": "", "[::1]:80": "", "::1": "",
		"a b": "", "a\x1b[31m": "", "ex\u00e4mple.com": "", "a/b": "", "*.example.com": "",
		strings.Repeat("a", 64) + ".com": "", strings.Repeat("a.", 130) + "a": "",
	} {
		if got := Hostname(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
	if n := testing.AllocsPerRun(100, func() { Hostname("api.example.com:443") }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

// FuzzHostname: what is returned is a name, and stays the same.
func FuzzHostname(f *testing.F) {
	f.Add("API.Example.com:443")
	f.Add("a\x00b")
	f.Add("a..")
	f.Fuzz(func(t *testing.T, text string) {
		name := Hostname(text)
		if Hostname(name) != name || len(name) > maxHostname || strings.ContainsAny(name, " \"\\/:[]\n\x00\x1b") {
			t.Errorf("%q: got %q", text, name)
		}
	})
}
