package http1

import "testing"

func TestUnchunk(t *testing.T) {
	for body, want := range map[string]string{
		"": "", "0\r\n\r\n": "", "3\r\nabc\r\n0\r\n\r\n": "abc", "3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nt: v\r\n\r\n": "abc0123456789",
		"5\r\nab": "ab", "5": "", "5\r\n\r\n0\r\n\r\n": "\r\n0\r\n", "2\r\n\r\n\r\n1\r\nx\r\n": "\r\nx", "3\nabc\n0\n\n": "abc",
	} {
		if got := string(Unchunk([]byte(body))); got != want {
			t.Errorf("%q: got %q, want %q", body, got, want)
		}
	}
}
