package load

import (
	"context"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/pkg/rawio"
	"github.com/underlane/underlane/test/bench/work"
)

// link is a connection under load. send and flush may be called while another
// goroutine receives.
type link interface {
	// send adds a request that is due at the given time of the run. flush sends what
	// was added.
	send(due int64) error
	flush() error
	// receive waits for at least one response. For each it calls done with the time
	// when the request was due.
	receive(done func(due int64)) error
	close()
}

// patience bounds a connect and the wait for a response.
const patience = 10 * time.Second

func newLink(ctx context.Context, o Options) (link, error) {
	if o.Work.Mode == work.HTTP1New {
		return &oneShot{ctx: ctx, target: o.Target, due: make(chan int64, 1), closed: make(chan struct{})}, nil
	}
	c, err := dial(ctx, o.Target)
	if err != nil {
		return nil, err
	}
	switch o.Work.Mode {
	case work.HTTP1:
		return &http1{conn: c, request: request(o.Target, "")}, nil
	case work.Echo:
		return &echo{conn: c}, nil
	case work.Bulk:
		return &bulk{conn: c}, nil
	}
	return newHTTP2(c, o)
}

// dial connects with TCP_NODELAY, so that no write waits for an acknowledgement.
func dial(ctx context.Context, to netip.AddrPort) (*rawio.Conn, error) {
	family := unix.AF_INET6
	if to.Addr().Is4() {
		family = unix.AF_INET
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", to, err)
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c, err := rawio.Connect(ctx, fd, to)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", to, err)
	}
	return c, nil
}

// echo sends a byte and waits until it comes back.
type echo struct {
	conn *rawio.Conn
	due  int64
	buf  [1]byte
}

func (e *echo) send(due int64) error { e.due = due; return nil }

func (e *echo) flush() error {
	_, err := e.conn.Write(e.buf[:])
	return err
}

func (e *echo) receive(done func(int64)) error {
	if _, err := e.conn.Read(e.buf[:]); err != nil {
		return err
	}
	done(e.due)
	return nil
}

func (e *echo) close() { e.conn.Close() }

// bulk sends zeros.
type bulk struct{ conn *rawio.Conn }

func (b *bulk) pour(bytes *uint64, phase *atomic.Int32) error {
	buf := make([]byte, 64<<10)
	for phase.Load() != over {
		n, err := b.conn.Write(buf)
		if phase.Load() == measuring {
			*bytes += uint64(n)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (*bulk) send(int64) error          { return nil }
func (*bulk) flush() error              { return nil }
func (*bulk) receive(func(int64)) error { return nil }
func (b *bulk) close()                  { b.conn.Close() }
