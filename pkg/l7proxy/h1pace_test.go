package l7proxy

import (
	"io"
	"strings"
	"testing"
	"time"
)

// TestH1ChunksWait: a body that is mostly framing arrives whole, and slowly; one that is
// not arrives at once. Of requests and of responses.
func TestH1ChunksWait(t *testing.T) {
	const (
		burst, rate = 128 << 10, 256 << 10
		ends        = "0\r\n\r\n"
	)
	small := strings.Repeat("1\r\nx\r\n", 80_000) // 3 bytes of framing a chunk, less twice its content
	waits := time.Duration(3*80_000-burst-64<<10) * time.Second / rate
	for name, c := range map[string]struct {
		body  string
		least time.Duration
	}{
		"small": {small + ends, waits},
		"large": {strings.Repeat("400\r\n"+strings.Repeat("x", 1024)+"\r\n", 4000) + ends, 0},
	} {
		for _, direction := range []string{"request", "response"} {
			t.Run(name+"/"+direction, func(t *testing.T) {
				e, b := newEnv(t), newBackend(t)
				cl := e.dial(b.addr)
				head := "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
				from, to := cl, cl
				if direction == "request" {
					cl.send(head)
					to = b.request()
				} else {
					head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
					cl.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
					from = b.request()
					from.expect("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
					from.send(head)
				}
				to.expect(head)
				began := time.Now()
				go func() { _, _ = io.WriteString(from.TCPConn, c.body) }()
				got := make([]byte, len(c.body))
				if _, err := io.ReadFull(to.r, got); err != nil {
					t.Fatal(err)
				}
				if string(got) != c.body {
					t.Error("the body has changed")
				}
				if took := time.Since(began); took < c.least {
					t.Errorf("took %v, want at least %v", took, c.least)
				}
				if direction == "request" { // the exchange goes on
					to.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
					from.expect("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				}
			})
		}
	}
}
