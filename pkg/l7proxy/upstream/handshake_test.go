package upstream

import (
	"context"
	"crypto/tls"
	"io"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls"
	"github.com/underlane/underlane/pkg/rawio"
)

// TestHandshakesWaitAtTheClient: a pod has turnsAtOnce handshakes with one endpoint at a
// time, however many connections it opens, and all of them are made.
func TestHandshakesWaitAtTheClient(t *testing.T) {
	var now, most atomic.Int64
	s := newShaker(t, nil, func(s *shaker, c *rawio.Conn) {
		served := tls.Server(&conn.Transport{Conn: c}, s.server)
		if n := now.Add(1); n > most.Load() {
			most.Store(n)
		}
		time.Sleep(5 * time.Millisecond) // busy with others
		now.Add(-1)
		_, _ = io.Copy(served, served)
	})
	reasons, _ := s.dial(300)
	s.expect(reasons, mesh.ReasonNone, 300)
	if n := most.Load(); n > turnsAtOnce || n < 2 {
		t.Errorf("%d at a time", n)
	}
}

// TestBusyAgentIsTriedAgain: an agent that says that it is busy is tried again, and does not
// count as away. If it stays busy, the connection fails with ReasonOverload.
func TestBusyAgentIsTriedAgain(t *testing.T) {
	s := newShaker(t, nil, func(s *shaker, c *rawio.Conn) {
		if s.came.Load() <= 3 {
			_, _ = c.Read(make([]byte, 4096))
			_, _ = c.Write(mtls.BusyAlert)
			return
		}
		s.accept(c)
	})
	s.ep.Fallback = true
	reasons, _ := s.dial(1)
	s.expect(reasons, mesh.ReasonNone, 1)
	if s.came.Load() != 4 {
		t.Errorf("%d connections", s.came.Load())
	}
	s.ep.HasOthers = true // does not wait for long where there are others
	s.came.Store(-1 << 40)
	reasons, took := s.dial(1)
	s.expect(reasons, mesh.ReasonOverload, 1)
	if s.down.is(&s.ep) || s.Fallbacks() > 0 {
		t.Error("a busy agent was taken for one that is away")
	}
	if n := s.HandshakesTimedOut(); n != 1 {
		t.Errorf("%d are overdue after %s, want 1", n, took)
	}
	if _, _, err := s.Probe(t.Context(), &s.ep, netip.AddrPort{}); !mtls.Busy(err) {
		t.Errorf("a busy agent is not there: %v", err)
	}
}

// TestHungAgentIsFoundOutOnce: connections that wait for their turn with a hung agent fail
// as soon as the first handshakes with it have failed.
func TestHungAgentIsFoundOutOnce(t *testing.T) {
	s := newShaker(t, handshakePause(300*time.Millisecond), saysNothing)
	reasons, took := s.dial(200)
	s.expect(reasons, mesh.ReasonAgentDown, 200)
	if n := s.came.Load(); n > 2*turnsAtOnce {
		t.Errorf("%d connections were made in %s", n, took)
	}
}

// timedOutNetwork has dials that fail after a while.
type timedOutNetwork struct {
	proxytest.Network
	dials atomic.Int64
}

func (n *timedOutNetwork) Dial(context.Context, string, netip.AddrPort) (*rawio.Conn, error) {
	n.dials.Add(1)
	time.Sleep(100 * time.Millisecond)
	return nil, unix.ETIMEDOUT
}

// TestLostEndpointIsFoundOutOnce: likewise where the node is gone, or packets are dropped.
func TestLostEndpointIsFoundOutOnce(t *testing.T) {
	network := &timedOutNetwork{}
	s := newShaker(t, func(o *Options) { o.Network = network }, saysNothing)
	reasons, _ := s.dial(200)
	s.expect(reasons, mesh.ReasonConnectTimeout, 200)
	if n := network.dials.Load(); n > 2*turnsAtOnce {
		t.Errorf("%d dials", n)
	}
}

// TestQueueIsNotSilence: neither the time that a handshake waits for its turn nor the
// caller's deadline counts as silence of the peer.
func TestQueueIsNotSilence(t *testing.T) {
	s := newShaker(t, handshakePause(2*time.Second), (*shaker).accept)
	s.gate = mtls.NewGate(mtls.GateOptions{Slots: 1})
	held, err := s.gate.Enter(t.Context(), netip.Addr{}, false)
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(3*time.Second, func() { held.Leave(false) })
	reasons, took := s.dial(20)
	s.expect(reasons, mesh.ReasonNone, 20)
	if took < 2900*time.Millisecond {
		t.Errorf("the handshakes took %s, want at least 3 s: none has waited", took)
	}

	s = newShaker(t, nil, saysNothing)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := s.open(ctx); ReasonOf(err) != mesh.ReasonTimeout {
		t.Errorf("got %v, want the reason timeout", err)
	}
	if s.down.is(&s.ep) {
		t.Error("the end of a request's time is taken for an agent that is away")
	}
}
