package listener

import (
	"errors"
	"net"
	"sync"
	"time"

	"github.com/underlane/underlane/pkg/rawio"
)

// Patient makes ln one whose Accept fails only when it is closed, for servers
// that end at the first error (net/http and gRPC wait out some of them). As in
// Serve, a lack of descriptors or memory is waited out and counted, and a
// connection that is lost before it is accepted is of no concern.
func (g *Group) Patient(ln net.Listener) net.Listener {
	return &patient{Listener: ln, group: g, closed: make(chan struct{})}
}

type patient struct {
	net.Listener
	group  *Group
	once   sync.Once
	closed chan struct{}
}

func (p *patient) Accept() (net.Conn, error) {
	for {
		conn, err := p.Listener.Accept()
		if err == nil || errors.Is(err, net.ErrClosed) {
			return conn, err
		}
		p.group.failed(p.Addr(), err)
		select {
		case <-time.After(exhaustedPause):
		case <-p.closed:
			return nil, net.ErrClosed
		}
	}
}

// Close ends Accept, also one that waits.
func (p *patient) Close() error {
	p.once.Do(func() { close(p.closed) })
	return p.Listener.Close()
}

// failed counts and tells a failure of accept.
func (g *Group) failed(listener any, err error) {
	if !rawio.Exhausted(err) {
		g.Log.Warn("accept: a connection is lost", "listener", listener, "err", err)
		return
	}
	if g.exhausted.Add(1)%100 == 1 {
		g.Log.Error("accept: out of descriptors or memory: connections wait", "listener", listener, "err", err)
	}
}
