package upstream

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net/netip"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls"
	"github.com/underlane/underlane/pkg/mtls/certchain"
	"github.com/underlane/underlane/pkg/rawio"
	"github.com/underlane/underlane/pkg/tap"
	"github.com/underlane/underlane/test/bombs"
)

// miniCA signs what it is asked to.
type miniCA struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newMiniCA(t *testing.T) *miniCA {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &miniCA{key, cert}
}

func (ca *miniCA) SignWorkload(_ context.Context, id mesh.Identity, csr []byte) (mtls.Issued, error) {
	request, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		return mtls.Issued{}, err
	}
	name, err := url.Parse(id.String())
	if err != nil {
		return mtls.Issued{}, err
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour), URIs: []*url.URL{name},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca.cert, request.PublicKey, ca.key)
	return mtls.Issued{Chain: [][]byte{der}, Anchors: [][]byte{ca.cert.Raw}, NotAfter: leaf.NotAfter}, err
}

// shaker is the client's end, and a peer that is another node's agent, or is not.
type shaker struct {
	*Pool
	t      *testing.T
	ep     Endpoint
	server *tls.Config
	came   atomic.Int64 // connections to the peer
}

// newShaker has peer serve the connections that come to it.
func newShaker(t *testing.T, change func(*Options), peer func(s *shaker, c *rawio.Conn)) *shaker {
	t.Helper()
	id := mesh.Identity{TrustDomain: "cluster.local", Namespace: "shop", ServiceAccount: "web"}
	certs := mtls.NewManager(newMiniCA(t), id.TrustDomain, slog.New(slog.DiscardHandler))
	certs.SetIdentities([]mesh.Identity{id})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { certs.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	s := &shaker{t: t, Pool: newPool(t, func(o *Options) {
		o.Certs = certs
		if change != nil {
			change(o)
		}
	})}
	var err error
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if s.server, err = certs.ServerConfig(id); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	l := proxytest.Listen(t)
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.came.Add(1)
			running.Go(func() { defer c.Close(); peer(s, c) })
		}
	})
	t.Cleanup(func() { l.Close() })
	s.ep = Endpoint{
		Key: Key{Source: "client", Identity: id, Addr: l.Addr()}, Mode: MTLS,
		Client: &mesh.Workload{UID: "client", Node: "node-1", Identity: id, Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}},
		Peer:   tap.Peer{Addr: l.Addr(), Workload: &mesh.Workload{UID: "server", Node: "node-2", Identity: id}},
	}
	return s
}

// open is a connection to the peer's agent.
func (s *shaker) open(ctx context.Context) (conn.Conn, error) {
	ep := s.ep
	c, _, err := s.Dial(ctx, &ep, netip.AddrPort{}, mtls.ALPNTCP)
	return c, err
}

// handshakePause sets what a silent peer is given.
func handshakePause(d time.Duration) func(*Options) {
	return func(o *Options) { o.Limits.HandshakeSilence = d }
}

// accept is an agent: it takes the handshake and echoes.
func (s *shaker) accept(c *rawio.Conn) {
	c2 := tls.Server(&conn.Transport{Conn: c}, s.server)
	_, _ = io.Copy(c2, c2)
}

// saysNothing is an application that waits, or an agent that hangs.
func saysNothing(_ *shaker, c *rawio.Conn) { _, _ = io.Copy(io.Discard, c) }

// dial makes so many connections at once and gives how they failed.
func (s *shaker) dial(n int) (reasons map[mesh.Reason]int, took time.Duration) {
	began, reasons := time.Now(), map[mesh.Reason]int{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			c, err := s.open(context.Background())
			why := mesh.ReasonNone
			if err == nil {
				c.Close()
			} else {
				why = ReasonOf(err)
			}
			mu.Lock()
			defer mu.Unlock()
			reasons[why]++
		})
	}
	wg.Wait()
	s.down.mu.Lock()
	asked := len(s.down.peers) // a probe each may be under way
	s.down.mu.Unlock()
	if st := s.gate.Stats(); st.Active > asked || st.Running+st.Waiting > asked || len(s.turns.byKey) > 0 {
		s.t.Errorf("left behind: %+v, %d endpoints", st, len(s.turns.byKey))
	}
	return reasons, time.Since(began)
}

func (s *shaker) expect(reasons map[mesh.Reason]int, why mesh.Reason, n int) {
	s.t.Helper()
	if len(reasons) != 1 || reasons[why] != n {
		s.t.Errorf("%v, want %d times %q", reasons, n, why)
	}
}

// An agent has a few handshakes of one node at a time, however many connections
// are wanted: all are made.
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

// An agent that says that it is busy is tried again, and not taken for one that is
// away; if it stays so, that is what the connection fails for.
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

// Those that wait for a hung agent fail when the first have found out.
func TestHungAgentIsFoundOutOnce(t *testing.T) {
	s := newShaker(t, handshakePause(300*time.Millisecond), saysNothing)
	reasons, took := s.dial(200)
	s.expect(reasons, mesh.ReasonAgentDown, 200)
	if n := s.came.Load(); n > 2*turnsAtOnce {
		t.Errorf("%d connections were made in %s", n, took)
	}
}

// timedOutNetwork reaches nobody, after a while.
type timedOutNetwork struct {
	proxytest.Network
	dials atomic.Int64
}

func (n *timedOutNetwork) Dial(context.Context, string, netip.AddrPort) (*rawio.Conn, error) {
	n.dials.Add(1)
	time.Sleep(100 * time.Millisecond)
	return nil, unix.ETIMEDOUT
}

// Likewise where the node is gone, or packets are dropped.
func TestLostEndpointIsFoundOutOnce(t *testing.T) {
	network := &timedOutNetwork{}
	s := newShaker(t, func(o *Options) { o.Network = network }, saysNothing)
	reasons, _ := s.dial(200)
	s.expect(reasons, mesh.ReasonConnectTimeout, 200)
	if n := network.dials.Load(); n > 2*turnsAtOnce {
		t.Errorf("%d dials", n)
	}
}

// An agent that is too busy to answer the question whether it lives, and carries
// bytes, is not taken for hung: its connections stay.
func TestBusyAgentKeepsItsConnections(t *testing.T) {
	var mute atomic.Bool
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
			time.Sleep(20 * time.Millisecond)
		}
		saysNothing(s, c)
	})
	c, err := s.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, c)
		ended <- err
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
	time.Sleep(100 * time.Millisecond)
	s.probeAgent(monitored)
	if err := <-ended; ReasonOf(err) != mesh.ReasonAgentDown {
		t.Errorf("a hung agent: %v", err)
	}
}

// Time in the queue is not the peer's silence, nor is the end of our own time.
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
		t.Errorf("nobody waited: %s", took)
	}

	s = newShaker(t, nil, saysNothing)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := s.open(ctx); ReasonOf(err) != mesh.ReasonTimeout {
		t.Errorf("%v", err)
	}
	if s.down.is(&s.ep) {
		t.Error("the end of a request's time is taken for an agent that is away")
	}
}

// Peers that stall in their handshakes hold no slot, and are given up.
func TestStallingClientHoldsNoSlot(t *testing.T) {
	s := newShaker(t, handshakePause(2*time.Second), saysNothing)
	s.gate = mtls.NewGate(mtls.GateOptions{Slots: 1, StrangerSlots: 1})
	serve := func(c *rawio.Conn) error {
		below := &conn.Transport{Conn: c}
		return s.Handshake(t.Context(), c.Remote().Addr(), false, tls.Server(below, s.server), below, nil)
	}
	config, err := s.Certs.ClientConfig(s.ep.Key.Identity, s.ep.Key.Identity, mtls.ALPNTCP)
	if err != nil {
		t.Fatal(err)
	}
	var stalled sync.WaitGroup
	for range 10 {
		client, server := proxytest.Pair(t)
		stalled.Go(func() { // sends its hello, reads, and says no more
			hello := &firstWrite{Conn: client}
			_ = hello.SetDeadline(time.Now().Add(4 * time.Second))
			_ = tls.Client(hello, config).HandshakeContext(t.Context())
		})
		stalled.Go(func() {
			if why := mtls.HandshakeReason(serve(server)); why != mesh.ReasonTimeout {
				t.Errorf("a client that stalls: %v", why)
			}
		})
	}
	for deadline := time.Now().Add(10 * time.Second); s.gate.Stats().Active < 10; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%+v", s.gate.Stats())
		}
	}
	client, server := proxytest.Pair(t)
	stalled.Go(func() {
		if err := tls.Client(&conn.Transport{Conn: client}, config).HandshakeContext(t.Context()); err != nil {
			t.Error(err)
		}
	})
	if err := serve(server); err != nil {
		t.Error(err)
	}
	stalled.Wait()
	if st := s.gate.Stats(); st.Active+st.Running > 0 {
		t.Errorf("%+v", st)
	}
}

// firstWrite lets nothing out but what is written first.
type firstWrite struct {
	*rawio.Conn
	written bool
}

func (c *firstWrite) Write(p []byte) (int, error) {
	if c.written {
		return len(p), nil
	}
	c.written = true
	return c.Conn.Write(p)
}

// TestHandshakeBytes: a chain that is much too large is not even read, on either side, and
// what follows a handshake is not counted.
func TestHandshakeBytes(t *testing.T) {
	s := newShaker(t, handshakePause(2*time.Second), saysNothing)
	client, err := s.Certs.ClientConfig(s.ep.Key.Identity, s.ep.Key.Identity, mtls.ALPNTCP)
	if err != nil {
		t.Fatal(err)
	}
	bomb := bombs.Chain(t, s.ep.Key.Identity.String(), elliptic.P256(), 99, true)
	bad := bombs.Client(bomb, mtls.ALPNTCP)
	bad.Certificates = []tls.Certificate{bomb}
	for name, tc := range map[string]struct {
		client, server *tls.Config
		ours           string // the side that sees the bomb; "": none
	}{
		"server":   {bad, s.server, "server"},
		"client":   {client, bad, "client"},
		"ordinary": {client, s.server, ""},
	} {
		a, b := proxytest.Pair(t)
		belowA, belowB := &conn.Transport{Conn: a}, &conn.Transport{Conn: b}
		tlsA, tlsB := tls.Client(belowA, tc.client), tls.Server(belowB, tc.server)
		errs := map[string]error{}
		done := make(chan error, 1)
		go func() {
			err := s.Handshake(t.Context(), netip.Addr{}, true, tlsA, belowA, nil)
			if err != nil {
				a.Close()
			} else if tc.ours == "" {
				_, err = tlsA.Write(make([]byte, 100<<10))
			}
			done <- err
		}()
		errs["server"] = s.Handshake(t.Context(), netip.Addr{}, true, tlsB, belowB, nil)
		if tc.ours == "" {
			if _, err := io.ReadFull(tlsB, make([]byte, 100<<10)); err != nil {
				t.Errorf("%s: after the handshake: %v", name, err)
			}
		}
		b.Close()
		errs["client"] = <-done
		if tc.ours == "" {
			if errs["server"] != nil || errs["client"] != nil {
				t.Errorf("%s: %v", name, errs)
			}
			continue
		}
		if err := errs[tc.ours]; !errors.Is(err, certchain.ErrHandshake) || mtls.HandshakeReason(err) != mesh.ReasonTLSPeer {
			t.Errorf("the %s sees %v, want %v", name, err, certchain.ErrHandshake)
		}
	}
}
