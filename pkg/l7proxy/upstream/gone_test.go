package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/netip"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/rawio"
)

var loopback = netip.MustParseAddr("127.0.0.1")

// A connection that ends because the pod at one of its ends has ended says so, by a read
// and by a write, with mTLS and without. What tells something else stays as it is.
func TestConnectionOfAPodThatEnds(t *testing.T) {
	for _, mode := range []Mode{Plaintext, SameNode, MTLS} {
		t.Run(mode.TLS(), func(t *testing.T) {
			network := &proxytest.Network{}
			peers := make(chan *rawio.Conn, 8)
			s := newShaker(t, func(o *Options) { o.Network = network }, func(s *shaker, c *rawio.Conn) {
				if mode != MTLS {
					peers <- c
					saysNothing(s, c)
					return
				}
				served := tls.Server(&conn.Transport{Conn: c}, s.server)
				if err := served.Handshake(); err != nil {
					t.Error(err)
				}
				peers <- c
				_, _ = io.Copy(io.Discard, served)
			})
			s.ep.Mode = mode
			open := func() (conn.Conn, *rawio.Conn) {
				t.Helper()
				c, err := s.open(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				return c, <-peers
			}
			read := func(c conn.Conn) error { _, err := c.Read(make([]byte, 1)); return err }
			write := func(c conn.Conn) error {
				for {
					if _, err := c.Write(make([]byte, 1<<20)); err != nil {
						return err
					}
				}
			}

			alive, _ := open()
			_ = alive.SetReadDeadline(time.Now())
			if err := read(alive); !errors.Is(err, os.ErrDeadlineExceeded) || ReadReason(err) != mesh.ReasonTimeout {
				t.Errorf("a read that is late: %v, %s; want %s", err, ReadReason(err), mesh.ReasonTimeout)
			}
			alive.Close()
			other, peer := open()
			_ = peer.Reset()
			peer.Close()
			if err := read(other); ReadReason(err) != mesh.ReasonUpstreamReset {
				t.Errorf("a server that resets: %v, want %s", err, mesh.ReasonUpstreamReset)
			}
			other.Close()

			reader, _ := open()
			writer, _ := open()
			waits := make(chan error, 2)
			go func() { waits <- read(reader) }()
			go func() { waits <- write(writer) }()
			network.End(loopback)
			for range 2 {
				if err := <-waits; ReadReason(err) != mesh.ReasonPodGone {
					t.Errorf("a read or a write that waits: %v, want %s", err, mesh.ReasonPodGone)
				}
			}
			for what, err := range map[string]error{"read": read(writer), "write": write(reader)} {
				if ReadReason(err) != mesh.ReasonPodGone {
					t.Errorf("a %s after it: %v, want %s", what, err, mesh.ReasonPodGone)
				}
			}
			reader.Close()
			writer.Close()
			reasons, _ := s.dial(3)
			s.expect(reasons, mesh.ReasonPodGone, 3)
		})
	}
}

// Whatever a handshake with the agent of a pod's node fails with while the pod ends, the
// agent is not away: the reason is the pod's end, and the end of the client's pod is not
// the endpoint's fault.
func TestHandshakeOfAPodThatEnds(t *testing.T) {
	failures := map[string]func(s *shaker, c *rawio.Conn){
		"reset":          func(_ *shaker, c *rawio.Conn) { _ = c.Reset() },
		"ended in order": func(*shaker, *rawio.Conn) {},
		"not TLS":        func(_ *shaker, c *rawio.Conn) { _, _ = c.Write([]byte("220 hello\r\n")) },
		"silent":         saysNothing,
	}
	for name, failure := range failures {
		for whose, c := range map[string]struct {
			addr netip.Addr
			want mesh.Reason
		}{
			"endpoint": {loopback, mesh.ReasonPodGone},
			"client":   {netip.MustParseAddr("10.0.0.1"), mesh.ReasonClientReset},
		} {
			t.Run(name+", the "+whose, func(t *testing.T) {
				network := &goneNetwork{}
				var blamed atomic.Int32
				s := newShaker(t, func(o *Options) {
					o.Network = network
					o.Limits.HandshakeSilence = time.Second // the peer has to see the connection in this time
					o.OnUnreachable = func(*Endpoint, mesh.Reason) { blamed.Add(1) }
				}, func(s *shaker, conn *rawio.Conn) {
					network.gone.Store(&c.addr)
					failure(s, conn)
				})
				reasons, _ := s.dial(1)
				s.expect(reasons, c.want, 1)
				if s.down.is(&s.ep) || blamed.Load() > 0 {
					t.Errorf("the agent counts as away: %v, the node as unreachable: %d times; want neither", s.down.is(&s.ep), blamed.Load())
				}
			})
		}
	}
}

// goneNetwork knows a pod that has ended, and cuts nothing.
type goneNetwork struct {
	proxytest.Network
	gone atomic.Pointer[netip.Addr]
}

func (n *goneNetwork) Gone(addr netip.Addr) bool {
	gone := n.gone.Load()
	return gone != nil && *gone == addr
}

// An agent that was away a moment ago does not count when the pod has ended since.
func TestAgentWasAwayBeforeThePodEnded(t *testing.T) {
	network := &proxytest.Network{}
	s := newShaker(t, func(o *Options) { o.Network = network }, func(_ *shaker, c *rawio.Conn) {
		_, _ = c.Read(make([]byte, 4096)) // the connection is there
		_ = c.Reset()
	})
	reasons, _ := s.dial(1)
	s.expect(reasons, mesh.ReasonAgentDown, 1)
	network.End(loopback)
	reasons, _ = s.dial(1)
	s.expect(reasons, mesh.ReasonPodGone, 1)
}

// Whatever the system says of a connection to a pod that has ended, the reason is its
// end; a lack of descriptors stays one.
func TestSystemErrorsOfAPodThatHasEnded(t *testing.T) {
	for err, want := range map[error]mesh.Reason{
		unix.ECONNREFUSED:        mesh.ReasonPodGone,
		unix.EHOSTUNREACH:        mesh.ReasonPodGone,
		unix.ETIMEDOUT:           mesh.ReasonPodGone,
		context.DeadlineExceeded: mesh.ReasonPodGone,
		unix.EMFILE:              mesh.ReasonExhausted,
		unix.EADDRNOTAVAIL:       mesh.ReasonConnectFailed,
	} {
		for _, mode := range []Mode{Plaintext, SameNode, MTLS} {
			network := &failingNetwork{err: err}
			network.gone.Store(&loopback)
			s := newShaker(t, func(o *Options) { o.Network = network }, saysNothing)
			s.ep.Mode = mode
			_, got := s.open(t.Context())
			if ReasonOf(got) != want || LocalFault(got) != (want == mesh.ReasonConnectFailed || want == mesh.ReasonExhausted) || nodeLost(got) || refusedForAgent(got) {
				t.Errorf("%v, %s: %v, its own fault %v, the node's %v, refused %v; want %s", err, mode.TLS(), got, LocalFault(got), nodeLost(got), refusedForAgent(got), want)
			}
		}
	}
}

// failingNetwork fails to connect.
type failingNetwork struct {
	goneNetwork
	err error
}

func (n *failingNetwork) Dial(context.Context, string, netip.AddrPort) (*rawio.Conn, error) {
	return nil, n.err
}

func (n *failingNetwork) DialApp(context.Context, string, netip.AddrPort, netip.AddrPort) (*rawio.Conn, error) {
	return nil, n.err
}

// The watch cuts connections for what it has found: an agent that hangs, or a node that is
// gone.
func TestWatchTellsWhyItCuts(t *testing.T) {
	for want, probe := range map[mesh.Reason]error{
		mesh.ReasonAgentDown:      unix.ECONNREFUSED,
		mesh.ReasonConnectTimeout: unix.ETIMEDOUT,
	} {
		t.Run(want.String(), func(t *testing.T) {
			var blamed atomic.Int32
			network := &failingAfter{first: 2, err: probe}
			s := newShaker(t, func(o *Options) {
				o.Network = network
				o.OnUnreachable = func(_ *Endpoint, why mesh.Reason) { blamed.Store(int32(why)) }
			}, (*shaker).accept)
			reader, err := s.open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer reader.Close()
			late, err := s.open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer late.Close()
			waits := make(chan error, 1)
			go func() {
				_, err := reader.Read(make([]byte, 1))
				waits <- err
			}()
			var monitored *monitoredConn
			s.agents.mu.Lock()
			for monitored = range s.agents.conns[s.ep.Peer.Addr] {
			}
			s.agents.mu.Unlock()
			s.probeAgent(monitored)
			if err := <-waits; ReadReason(err) != want {
				t.Errorf("a read that waits: %v, want %s", err, want)
			}
			if _, err := late.Write([]byte("x")); ReadReason(err) != want {
				t.Errorf("a write after it: %v, want %s", err, want)
			}
			if got := mesh.Reason(blamed.Load()); got != want {
				t.Errorf("the endpoint is told to be away for %q, want %q", got, want)
			}
			if !Deserted(want) {
				t.Errorf("a request that can be repeated does not move on after %s", want)
			}
		})
	}
}

// failingAfter connects a number of times, and fails from then on.
type failingAfter struct {
	proxytest.Network
	first int32
	dials atomic.Int32
	err   error
}

func (n *failingAfter) Dial(ctx context.Context, from string, dst netip.AddrPort) (*rawio.Conn, error) {
	if n.dials.Add(1) > n.first {
		return nil, n.err
	}
	return n.Network.Dial(ctx, from, dst)
}
