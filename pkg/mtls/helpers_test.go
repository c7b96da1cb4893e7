package mtls

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls/ca"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testDomain = "cluster.local"

var (
	web   = mesh.Identity{TrustDomain: testDomain, Namespace: "shop", ServiceAccount: "web"}
	store = mesh.Identity{TrustDomain: testDomain, Namespace: "shop", ServiceAccount: "store"}
	other = mesh.Identity{TrustDomain: testDomain, Namespace: "shop", ServiceAccount: "other"}
)

// authority is a Signer with a real CA, like the controller.
type authority struct {
	*ca.Directory
	lifetime time.Duration

	mu    sync.Mutex
	fail  error                                    // if set, the answer to all requests
	asked map[mesh.Identity]int                    // requests so far
	spoil func(id mesh.Identity, i *Issued)        // changes the answer
	swap  func(id mesh.Identity) mesh.Identity     // makes it sign for another identity
	key   func(csrDER []byte) (otherCSRDER []byte) // makes it sign another key
}

func newAuthority(t testing.TB, lifetime time.Duration) *authority {
	t.Helper()
	a, err := ca.Open(t.TempDir(), testDomain)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{Directory: a, lifetime: lifetime, asked: map[mesh.Identity]int{}}
}

func (a *authority) set(change func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change()
}

func (a *authority) requests(id mesh.Identity) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.asked[id]
}

func (a *authority) SignWorkload(ctx context.Context, id mesh.Identity, csr []byte) (Issued, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked[id]++
	if a.fail != nil {
		return Issued{}, a.fail
	}
	if a.key != nil {
		csr = a.key(csr)
	}
	subject := id
	if a.swap != nil {
		subject = a.swap(id)
	}
	chain, notAfter, err := a.Directory.SignWorkload(csr, subject, a.lifetime)
	issued := Issued{Chain: chain, Anchors: a.anchorsDER(), NotAfter: notAfter}
	if a.spoil != nil {
		a.spoil(id, &issued)
	}
	return issued, err
}

func (a *authority) anchorsDER() [][]byte { return ders(a.Anchors()...) }

func ders(certs ...*x509.Certificate) (out [][]byte) {
	for _, c := range certs {
		out = append(out, c.Raw)
	}
	return out
}

// startManager runs a Manager for ids until the test ends.
func startManager(t testing.TB, s Signer, ids ...mesh.Identity) *Manager {
	t.Helper()
	m := NewManager(s, testDomain, slog.New(slog.DiscardHandler))
	m.SetIdentities(ids)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); m.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return m
}

// ready waits until every certificate is issued. It also works outside a synctest
// bubble.
func ready(t testing.TB, m *Manager) *Manager {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for time.Now().Before(deadline) {
		pending := false
		for _, s := range m.Status() {
			pending = pending || s.State == CertPending
		}
		if !pending {
			return m
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("after 10 s: %+v, want all certificates issued", m.Status())
	return nil
}

// root is a root certificate of the tests. It can issue certificates that the
// real authority would refuse to.
type root struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newRoot(t testing.TB, name string) root {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour),
		KeyUsage: x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return root{cert, key}
}

// issue makes a good certificate for uris, which change may then spoil.
func (r root) issue(t testing.TB, change func(*x509.Certificate), uris ...string) *tls.Certificate {
	t.Helper()
	template := &x509.Certificate{
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	for _, u := range uris {
		parsed, err := url.Parse(u)
		if err != nil {
			t.Fatal(err)
		}
		template.URIs = append(template.URIs, parsed)
	}
	if change != nil {
		change(template)
	}
	key := newKey(t)
	der, err := x509.CreateCertificate(rand.Reader, template, r.cert, key.Public(), r.key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// outcome is the result of a connection attempt on both sides.
type outcome struct {
	client, server error
	// The peer's identity as seen by the server and by the client.
	clientID, serverID mesh.Identity
	resumed            bool
}

// connect makes a connection over two ends of a pipe. After the handshake the
// server sends a byte: only by reading it does a client learn whether it was
// refused.
func connect(c, s net.Conn, client, server *tls.Config) (o outcome) {
	var wg sync.WaitGroup
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	wg.Go(func() {
		defer s.Close()
		conn := tls.Server(s, server)
		if o.server = Handshake(ctx, conn); o.server != nil {
			return
		}
		o.clientID, o.server = PeerIdentity(conn.ConnectionState())
		if o.server == nil {
			_, o.server = conn.Write([]byte{1})
		}
	})
	conn := tls.Client(c, client)
	if o.client = Handshake(ctx, conn); o.client == nil {
		if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
			o.client = mesh.Fail(HandshakeReason(err), err)
		}
		o.resumed = conn.ConnectionState().DidResume
		o.serverID, _ = PeerIdentity(conn.ConnectionState())
	}
	_ = c.Close()
	wg.Wait()
	return o
}

func connectPipe(client, server *tls.Config) outcome {
	c, s := net.Pipe()
	return connect(buffered(c), buffered(s), client, server)
}

// bufferedConn gives an end of a net.Pipe a send buffer, like a socket's. Without
// one, a side that refuses while the other still writes would block both.
type bufferedConn struct {
	net.Conn
	mu     sync.Mutex
	closed bool
	out    chan []byte
}

func buffered(c net.Conn) net.Conn {
	b := &bufferedConn{Conn: c, out: make(chan []byte, 64)}
	go func() {
		defer c.Close()
		for p := range b.out {
			if _, err := c.Write(p); err != nil {
				return
			}
		}
	}()
	return b
}

func (b *bufferedConn) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0, net.ErrClosed
	}
	b.out <- append([]byte(nil), p...)
	return len(p), nil
}

func (b *bufferedConn) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.closed = true
		close(b.out)
	}
	return nil
}

// between connects source, with its certificate from m, to dest, with its
// certificate from n.
func between(m, n *Manager, source, dest mesh.Identity) outcome {
	client, err := m.ClientConfig(source, dest, ALPNTCP)
	if err != nil {
		return outcome{client: err}
	}
	server, err := n.ServerConfig(dest)
	if err != nil {
		return outcome{server: err}
	}
	return connectPipe(client, server)
}

func (o outcome) err() error { return errors.Join(o.client, o.server) }
