package upstream

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"math/big"
	"net/netip"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls"
	"github.com/underlane/underlane/pkg/rawio"
	"github.com/underlane/underlane/pkg/tap"
)

// miniCA is a CA that signs each request.
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

// dial makes n connections at once. It returns how many of them failed for which reason.
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
