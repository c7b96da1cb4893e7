package http1

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// mended is what the engine makes of a message that breaks the RFC without harm.
type mended struct {
	Forwarded string // the head, as it is sent on
	Body      BodyKind
	KeepAlive bool
}

// TestFramingOfNoBody: a response that has no body ends at its empty line (RFC 9112
// §6.3), whatever its framing fields say, and they are not forwarded. A response with
// a body is still refused for them.
func TestFramingOfNoBody(t *testing.T) {
	lines := map[string]struct {
		line  string
		asked Kind
		body  BodyKind
		more  string // fields that the status needs
	}{
		"204":     {line: "HTTP/1.1 204 No Content\r\n"},
		"100":     {line: "HTTP/1.1 100 Continue\r\n"},
		"103":     {line: "HTTP/1.1 103 Early Hints\r\n"},
		"101":     {line: "HTTP/1.1 101 Switching Protocols\r\n", asked: KindUpgrade, body: BodyTunnel, more: "Upgrade: a\r\nConnection: upgrade\r\n"},
		"CONNECT": {line: "HTTP/1.1 200 OK\r\n", asked: KindCONNECT, body: BodyTunnel},
	}
	for name, fields := range map[string]string{
		"length":             "Content-Length: 5\r\n",
		"two lengths":        "Content-Length: 5\r\nContent-Length: 6\r\n",
		"no number":          "Content-Length: x\r\n",
		"chunked":            "Transfer-Encoding: chunked\r\n",
		"chunked and length": "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
		"another coding":     "Transfer-Encoding: gzip\r\n",
	} {
		for status, l := range lines {
			t.Run(status+" "+name, func(t *testing.T) {
				h, n := response(t, l.line+"A: 1\r\n"+fields+l.more+"B: 2\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", l.asked)
				body := h.Body()
				got := mended{string(AppendResponseHead(nil, h, &Edits{})), body.Kind(), h.KeepAlive()}
				want := mended{l.line + "A: 1\r\n" + l.more + "B: 2\r\n\r\n", l.body, h.Interim()}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				if want := len(l.line + "A: 1\r\n" + fields + l.more + "B: 2\r\n\r\n"); n != want {
					t.Errorf("the head ends at byte %d, want %d", n, want)
				}
			})
		}
	}
	t.Run("length of nought stays", func(t *testing.T) {
		const in = "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"
		h, _ := response(t, in, 0)
		if got := string(AppendResponseHead(nil, h, &Edits{})); got != in || !h.KeepAlive() {
			t.Errorf("forwarded as %q, keep-alive %v; want %q, true", got, h.KeepAlive(), in)
		}
	})
}
