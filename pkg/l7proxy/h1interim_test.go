package l7proxy

import (
	"io"
	"strings"
	"testing"
)

// TestH1ManyInterimResponses: a server may send as many as it likes, and a client of
// HTTP/1.0 gets none (RFC 9110 §15.2).
func TestH1ManyInterimResponses(t *testing.T) {
	const final = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	interim := strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", 3000)
	for version, want := range map[string]string{
		"1.1": interim + final,
		"1.0": "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok",
	} {
		t.Run("to HTTP/"+version, func(t *testing.T) {
			e, b := newEnv(t), newBackend(t)
			c := e.dial(b.addr)
			request := "GET / HTTP/" + version + "\r\nHost: x\r\nConnection: keep-alive\r\n\r\n"
			c.send(request)
			srv := b.request()
			srv.expect(request)
			srv.send(interim + final)
			got := make([]byte, len(want))
			if n, err := io.ReadFull(c.r, got); err != nil || string(got) != want {
				t.Errorf("%d bytes, %v, ending in %q; want %d bytes ending in %q", n, err, got[max(0, n-80):n], len(want), want[max(0, len(want)-80):])
			}
		})
	}
}
