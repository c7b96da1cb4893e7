package listener

import (
	"errors"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/underlane/underlane/pkg/rawio"
)

// Patient returns a listener whose Accept fails only after Close. It is for servers that
// end at an error of Accept (net/http and gRPC continue after some errors). After any other
// error Accept waits and tries again, as Serve does, and a lack of descriptors or memory is
// counted. A TCP listener that another program has destroyed listens again.
func (g *Group) Patient(ln net.Listener) net.Listener {
	return &patient{Listener: ln, group: g, closed: make(chan struct{})}
}

type patient struct {
	net.Listener
	group *Group
	revival
	once   sync.Once
	closed chan struct{}
}

func (p *patient) Accept() (net.Conn, error) {
	for {
		conn, err := p.Listener.Accept()
		if err == nil || errors.Is(err, net.ErrClosed) {
			return conn, err
		}
		pause := exhaustedPause
		if destroyed(err) {
			pause = p.wait(time.Now())
		} else {
			p.group.failed(p.Addr(), err)
		}
		select {
		case <-time.After(pause):
		case <-p.closed:
			return nil, net.ErrClosed
		}
		if tcp, ok := p.Addr().(*net.TCPAddr); ok && destroyed(err) {
			p.group.revive(tcp.AddrPort(), p.control)
		}
	}
}

// control calls f with the descriptor of the listener.
func (p *patient) control(f func(fd int) error) error {
	over, ok := p.Listener.(syscall.Conn)
	if !ok {
		return errors.New("not a socket")
	}
	raw, err := over.SyscallConn()
	if err != nil {
		return err
	}
	if e := raw.Control(func(fd uintptr) { err = f(int(fd)) }); e != nil {
		return e
	}
	return err
}

// Close closes the listener. An Accept that waits returns net.ErrClosed.
func (p *patient) Close() error {
	p.once.Do(func() { close(p.closed) })
	return p.Listener.Close()
}

// failed counts and logs a failure of accept.
func (g *Group) failed(listener any, err error) {
	if !rawio.Exhausted(err) {
		g.warn("accept: a connection is lost", listener, err)
		return
	}
	if g.exhausted.Add(1)%100 == 1 {
		g.Log.Error("accept: out of descriptors or memory: connections wait", "listener", listener, "err", err)
	}
}
