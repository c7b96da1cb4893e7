package l7proxy

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// TestH1AnswerBeforeTheRequest: a server that answers each connection before it reads, ends
// its side, and reads on, is heard.
func TestH1AnswerBeforeTheRequest(t *testing.T) {
	const answer = "HTTP/1.1 503 Busy\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
	addr := serveConns(t, func(nc net.Conn) {
		_, _ = io.WriteString(nc, answer)
		_ = nc.(interface{ CloseWrite() error }).CloseWrite()
		_, _ = io.Copy(io.Discard, nc)
	})
	e := newEnv(t)
	to := e.to(addr)
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			nc, err := net.Dial("tcp", to)
			if err != nil {
				t.Error(err)
				return
			}
			defer nc.Close()
			_ = nc.SetDeadline(time.Now().Add(time.Minute))
			_, _ = io.WriteString(nc, get)
			if _, err := nc.Read(make([]byte, 100)); err != nil {
				t.Errorf("got %v, want an answer", err)
			}
		})
	}
	wg.Wait()
}
