package upstream

import (
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/l7proxy/quota"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/rawio"
	"github.com/underlane/underlane/pkg/tap"
)

// TestSilenceIsAskedAfter: only a connection that was written to is asked
// after, less and less often while nothing comes, and anew after an answer.
func TestSilenceIsAskedAfter(t *testing.T) {
	c, peer := monitoredPair(t, &Pool{})
	asked := func(seconds int) (at []int) {
		for s := 1; s <= seconds; s++ {
			if c.look() {
				at = append(at, s)
			}
		}
		return at
	}
	if at := asked(10); at != nil {
		t.Errorf("an idle connection is asked after at %d", at)
	}
	if _, err := c.Write([]byte("question")); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int{2, 6, 14, 30, 62, 122, 182}, asked(200)); diff != "" {
		t.Errorf("silence: %s", diff)
	}
	if _, err := peer.Write([]byte("answer")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 16)); err != nil {
		t.Fatal(err)
	}
	if at := asked(10); at != nil {
		t.Errorf("after the answer it is asked at %d", at)
	}
	if _, err := c.Write([]byte("question")); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int{2, 6}, asked(10)); diff != "" {
		t.Errorf("silence anew: %s", diff)
	}
}

// TestOneQuestionAnEndpoint: all connections to an endpoint share one question,
// and its answer.
func TestOneQuestionAnEndpoint(t *testing.T) {
	pool := new(Pool)
	all := &pool.agents
	addr := netip.MustParseAddrPort("10.0.0.1:80")
	var conns []*monitoredConn
	for range 3 {
		c, _ := monitoredPair(t, pool)
		c.ep.Peer = tap.Peer{Addr: addr}
		all.add(c)
		conns = append(conns, c)
		if _, err := c.Write([]byte("question")); err != nil {
			t.Fatal(err)
		}
	}
	all.overdue() // sees where they are
	questions := 0
	for range 4 {
		questions += len(all.overdue())
	}
	if questions != 1 {
		t.Errorf("%d questions under way", questions)
	}
	if cut := all.answered(addr, false); len(cut) != 0 {
		t.Errorf("%d connections of a live agent are cut", len(cut))
	}
	conns[0].Close()
	if cut := all.answered(addr, true); len(cut) != 2 {
		t.Errorf("%d connections of a hung agent are cut, of 2 open ones", len(cut))
	}
	conns[1].Close()
	conns[2].Close()
	if len(all.conns) != 0 {
		t.Errorf("closed connections are remembered: %v", all.conns)
	}
}

// TestFailuresHaveTheCause: a read, a write and a flush all fail with the reason for which
// the watch has cut the connection.
func TestFailuresHaveTheCause(t *testing.T) {
	c, _ := monitoredPair(t, &Pool{})
	secure := conn.NewSecure(tls.Client(c, &tls.Config{}), &c.Transport)
	for raw, p := c.Conn, make([]byte, 1<<20); ; {
		raw.BeginOffer()
		if _, err := raw.Write(p); err != nil {
			t.Fatal(err)
		}
		if raw.EndOffer() > 0 {
			break // the socket is full
		}
	}
	c.cut.Store(int32(mesh.ReasonAgentDown))
	_ = c.Conn.Reset()
	for name, do := range map[string]func() error{
		"read":  func() error { _, err := c.Read(make([]byte, 1)); return err },
		"write": func() error { _, err := c.Write([]byte("x")); return err },
		"flush": secure.Flush,
	} {
		why, _ := errors.AsType[*mesh.ReasonError](do())
		if why == nil || why.Reason != mesh.ReasonAgentDown {
			t.Errorf("%s: got %v, want the reason %s", name, why, mesh.ReasonAgentDown)
		}
	}
}

func monitoredPair(t *testing.T, pool *Pool) (*monitoredConn, net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := rawio.Connect(t.Context(), fd, netip.MustParseAddrPort(l.Addr().String()))
	if err != nil {
		t.Fatal(err)
	}
	peer, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { raw.Close(); peer.Close() })
	_ = raw.SetDeadline(time.Now().Add(10 * time.Second))
	return pool.monitor(raw, &Endpoint{}), peer
}

// TestBusyAgentKeepsItsConnections: an agent that does not answer a probe in time but still
// carries bytes does not count as hung, and its connections stay.
func TestBusyAgentKeepsItsConnections(t *testing.T) {
	var mute atomic.Bool
	var said, heard atomic.Int64
	muted := make(chan struct{})
	s := newShaker(t, handshakePause(1500*time.Millisecond), func(s *shaker, c *rawio.Conn) {
		if s.came.Load() > 1 {
			saysNothing(s, c)
			return
		}
		served := tls.Server(&conn.Transport{Conn: c}, s.server)
		for !mute.Load() {
			if _, err := served.Write([]byte(".")); err != nil {
				return
			}
			said.Add(1)
			time.Sleep(20 * time.Millisecond)
		}
		close(muted)
		saysNothing(s, c)
	})
	c, err := s.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ended := make(chan error, 1)
	go func() {
		for p := make([]byte, 100); ; {
			n, err := c.Read(p)
			if heard.Add(int64(n)); err != nil {
				ended <- err
				return
			}
		}
	}()
	var monitored *monitoredConn
	s.agents.mu.Lock()
	for monitored = range s.agents.conns[s.ep.Peer.Addr] {
	}
	s.agents.mu.Unlock()
	s.probeAgent(monitored)
	select {
	case err := <-ended:
		t.Fatalf("the connection of a busy agent was cut: %v", err)
	default:
	}
	mute.Store(true)
	<-muted
	proxytest.Eventually(t, "all is read that the agent has sent", func() bool { return heard.Load() == said.Load() })
	s.probeAgent(monitored)
	if err := <-ended; ReasonOf(err) != mesh.ReasonAgentDown {
		t.Errorf("a hung agent: %v", err)
	}
}

// TestProbesAreNotCounted: a probe of an agent takes no descriptor of the pod whose
// connection is silent, and succeeds where the pod has as many as it may.
func TestProbesAreNotCounted(t *testing.T) {
	s := newShaker(t, handshakePause(2*time.Second), (*shaker).accept)
	pods := &quota.Pods{MaxConns: 10, Descriptors: 3}
	usage, err := pods.Enter(quota.Key{UID: "client", Direction: mesh.Outbound}, quota.PodSource("client"), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer usage.Leave()
	s.ep.Usage = usage
	c, err := s.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	pods.Descriptors = 2 // no further one
	if _, err := s.open(t.Context()); !errors.Is(err, quota.ErrDescriptors) || ReasonOf(err) != mesh.ReasonOverload {
		t.Errorf("a connection over the share: got %v, want %v", err, quota.ErrDescriptors)
	}
	var monitored *monitoredConn
	s.agents.mu.Lock()
	for monitored = range s.agents.conns[s.ep.Peer.Addr] {
	}
	s.agents.mu.Unlock()
	came := s.came.Load()
	s.probeAgent(monitored)
	if s.came.Load() != came+1 || monitored.HungUp() {
		t.Errorf("the probe has made %d connections and the connection is cut %v, want 1 and false", s.came.Load()-came, monitored.HungUp())
	}
}
