package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"sync"

	"github.com/underlane/underlane/pkg/rawio"
	"github.com/underlane/underlane/test/bench/work"
)

// request returns a request of the typical size.
func request(target netip.AddrPort, more string) []byte {
	return fmt.Appendf(nil, "GET /bench/of/a/path HTTP/1.1\r\nHost: %s\r\nUser-Agent: underlane-bench/1\r\nAccept: */*\r\nAccept-Encoding: identity\r\n%s\r\n", target, more)
}

// http1 is a link with one request at a time in flight.
type http1 struct {
	conn    *rawio.Conn
	request []byte

	mu  sync.Mutex
	due []int64

	buf  [8 << 10]byte
	have int
}

func (h *http1) send(due int64) error {
	h.mu.Lock()
	h.due = append(h.due, due)
	h.mu.Unlock()
	return nil
}

func (h *http1) flush() error {
	_, err := h.conn.Write(h.request)
	return err
}

func (h *http1) receive(done func(int64)) error {
	for {
		n, err := whole(h.buf[:h.have])
		if err != nil {
			return err
		}
		if n > 0 {
			h.have = copy(h.buf[:], h.buf[n:h.have])
			h.mu.Lock()
			if len(h.due) == 0 {
				h.mu.Unlock()
				return errors.New("an answer to no request")
			}
			due := h.due[0]
			h.due = h.due[:copy(h.due, h.due[1:])]
			h.mu.Unlock()
			done(due)
			return nil
		}
		if h.have == len(h.buf) {
			return errors.New("the answer is too long")
		}
		n, err = h.conn.Read(h.buf[h.have:])
		if err != nil {
			return err
		}
		h.have += n
	}
}

func (h *http1) close() { h.conn.Close() }

var (
	okay   = []byte("HTTP/1.1 200 ")
	blank  = []byte("\r\n\r\n")
	length = []byte("\r\ncontent-length:")
)

// whole returns the length of the response at the beginning of p, 0 if it is not
// complete. A response other than the expected one is an error.
func whole(p []byte) (int, error) {
	head := bytes.Index(p, blank)
	if head < 0 {
		return 0, nil
	}
	if !bytes.HasPrefix(p, okay) {
		return 0, fmt.Errorf("answered %.40q", p)
	}
	at := indexFold(p[:head+2], length)
	if at < 0 {
		return 0, errors.New("an answer without Content-Length")
	}
	value := p[at+len(length) : head+2]
	value = bytes.TrimSpace(value[:bytes.IndexByte(value, '\r')])
	n, err := strconv.Atoi(string(value))
	if err != nil || n != work.Body {
		return 0, fmt.Errorf("an answer of %q bytes, want %d", value, work.Body)
	}
	if total := head + len(blank) + n; total <= len(p) {
		return total, nil
	}
	return 0, nil
}

// indexFold is like bytes.Index but ignores case. lower is in lower case.
func indexFold(p, lower []byte) int {
	for i := 0; i+len(lower) <= len(p); i++ {
		if p[i] == '\r' && bytes.EqualFold(p[i:i+len(lower)], lower) {
			return i
		}
	}
	return -1
}

// oneShot makes a connection for each request.
type oneShot struct {
	ctx    context.Context
	target netip.AddrPort
	due    chan int64

	mu     sync.Mutex
	conn   *rawio.Conn
	closed chan struct{}
	ended  bool
}

func (o *oneShot) send(due int64) error { o.due <- due; return nil }
func (o *oneShot) flush() error         { return nil }

var errEnded = errors.New("the run is over")

func (o *oneShot) receive(done func(int64)) error {
	var due int64
	select {
	case due = <-o.due:
	case <-o.closed:
		return errEnded
	}
	c, err := dial(o.ctx, o.target)
	if err != nil {
		return err
	}
	defer c.Close()
	o.mu.Lock()
	o.conn = c
	ended := o.ended
	o.mu.Unlock()
	if ended {
		return errEnded
	}
	h := http1{conn: c, request: request(o.target, "Connection: close\r\n"), due: []int64{due}}
	if err := h.flush(); err != nil {
		return err
	}
	return h.receive(done)
}

func (o *oneShot) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.ended {
		o.ended = true
		close(o.closed)
	}
	if o.conn != nil {
		o.conn.Close()
	}
}
