package http2

import (
	"net"
	"testing"
)

// serveEngine responds to requests on a connection with an engine in the server role. The
// response has the request's body, and trailers.
func serveEngine(nc net.Conn) {
	defer nc.Close()
	c := New(Config{Role: Server})
	pending := map[uint32]*echo{}
	buf := make([]byte, 32<<10)
	var spare []byte
	flush := func() bool {
		for c.OutputLen() > 0 {
			spare = c.TakeOutput(spare)
			if _, err := nc.Write(spare); err != nil {
				return false
			}
			if c.OutputOpened() {
				for id, e := range pending {
					e.push(c, id)
				}
			}
		}
		return true
	}
	for flush() {
		n, err := nc.Read(buf)
		if err != nil {
			return
		}
		events, err := c.Feed(buf[:n])
		for i := range events {
			ev := &events[i]
			switch ev.Kind {
			case EventHeaders:
				if pending[ev.Stream] == nil {
					pending[ev.Stream] = &echo{body: []byte("echo:")}
					_ = c.WriteHeaders(ev.Stream, []Field{{Name: ":status", Value: "200"}, {Name: "trailer", Value: "x-end"}}, false)
				}
			case EventData:
				pending[ev.Stream].body = append(pending[ev.Stream].body, ev.Payload...)
			case EventReset:
				delete(pending, ev.Stream)
			case EventWindowOpened:
				for id, e := range pending {
					e.push(c, id)
				}
			}
			if ev.EndStream {
				pending[ev.Stream].end = true
			}
			if e := pending[ev.Stream]; e != nil {
				e.push(c, ev.Stream)
				if e.done {
					delete(pending, ev.Stream)
				}
			}
		}
		if err != nil {
			flush()
			return
		}
	}
}

type echo struct {
	body      []byte
	end, done bool
}

func (e *echo) push(c *Conn, id uint32) {
	if e.done {
		return
	}
	n, _ := c.WriteData(id, e.body, false)
	c.Consume(id, n) // 5 bytes more than received, for "echo:": this only widens the window
	e.body = append(e.body[:0], e.body[n:]...)
	if e.end && len(e.body) == 0 {
		e.done = c.WriteTrailers(id, []Field{{Name: "x-end", Value: "1"}}) == nil
	}
}

// listenEngine serves engines on loopback.
func listenEngine(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			go serveEngine(nc)
		}
	}()
	return l.Addr().String()
}
