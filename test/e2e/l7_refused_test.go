package e2e

import (
	"crypto/rand"
	"net/http"
	"strings"
	"testing"
)

// TestRefused: what fails or is malformed gets an answer with its reason, and
// disturbs nobody else.
func TestRefused(t *testing.T) {
	l := upL7(t)
	taps := map[string]*tapReader{node1: startTap(t, l.Lab, node1), node2: startTap(t, l.Lab, node2)}
	well := l.client(t, false)
	for _, w := range l.ways {
		t.Run(w.name, func(t *testing.T) {
			ask, err := http.NewRequest("GET", "http://"+w.addr(8080)+"/well-behaved", nil)
			if err != nil {
				t.Fatal(err)
			}
			connection := do(t, well, ask).Connection // of a client that must not notice anything

			tap := taps[w.nodeN] // the reason is known where the connection was refused
			taps[node1].forget()
			tap.forget()
			c := l.from.raw(t, w.addr(9)) // nobody listens there
			c.send("GET /closed HTTP/1.1\r\nHost: x\r\n\r\n")
			resp, body := c.response("GET")
			if resp.StatusCode != 502 || resp.Header.Get("underlane-reason") != "connect-refused" || body == "" {
				t.Errorf("closed port: %d %v %q", resp.StatusCode, resp.Header, body)
			}
			e := tap.wait("the refusal", func(e event) bool {
				return e.ResponseEndEvent != nil && e.ResponseEndEvent.Path == "/closed" && e.Reason != ""
			})
			if e.TLS != w.tls || e.Reason != "connect-refused" || e.ResponseEndEvent.Success || e.ResponseEndEvent.HTTPStatus != 502 {
				t.Errorf("tap: %s", e)
			}
			for name, request := range map[string]string{
				"length and chunked":  "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
				"two lengths":         "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
				"chunked in disguise": "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
				"space before colon":  "POST / HTTP/1.1\r\nHost: x\r\nContent-Length : 5\r\n\r\nhello",
				"bad chunk":           "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
				"two hosts":           "GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
			} {
				c := l.from.raw(t, w.addr(8080))
				c.send(request + "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n")
				resp, _ := c.response("GET")
				if resp.StatusCode != 400 || resp.Header.Get("underlane-reason") != "bad-request" || !resp.Close {
					t.Errorf("%s: %d %v", name, resp.StatusCode, resp.Header)
				}
				if rest := c.rest(); rest != "" {
					t.Errorf("%s: then %q", name, rest)
				}
			}
			for _, bytes := range []string{
				"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + random(600),
				"\x17\x03\x03\x00\x20" + random(32),
				"\x16\x03\x01\xff\xff" + random(100),
				"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + random(200),
			} {
				c := l.from.raw(t, w.addr(8080))
				c.send(bytes)
				_ = c.CloseWrite()
				c.rest() // an end, whatever came before
			}
			if again := do(t, well, ask).Connection; again != connection {
				t.Errorf("the well-behaved client's requests went from connection %d to %d of the server", connection, again)
			}
			if e := outboundEnd(taps[node1], "/closed"); e.ResponseEndEvent.Success || e.ResponseEndEvent.HTTPStatus != 502 {
				t.Errorf("tap of the client's node: %s", e)
			}
			if n := len(taps[node1].all(func(e event) bool { return strings.Contains(e.line, "smuggled") })); n > 0 {
				t.Errorf("%d smuggled requests were seen", n)
			}
		})
	}
	after := metrics(t, l.Lab, node1)
	if n := metric(after, "response_total", "direction=outbound", "classification=failure", "status_code=502"); n != 4 {
		t.Errorf("%v failures with status 502 in response_total, want 4", n)
	}
}

func random(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return string(b)
}
