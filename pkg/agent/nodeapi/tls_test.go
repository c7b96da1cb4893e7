package nodeapi

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/mtls"
	"github.com/underlane/underlane/pkg/tap"
)

// root is a certificate authority.
type root struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newRoot(t *testing.T) root {
	r := root{t: t}
	r.cert, r.key = r.make(&x509.Certificate{
		Subject: pkix.Name{CommonName: "root"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil)
	return r
}

func (r root) make(template *x509.Certificate, by *root) (*x509.Certificate, *ecdsa.PrivateKey) {
	r.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		r.t.Fatal(err)
	}
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(time.Hour)
	}
	template.NotBefore = time.Now().Add(-time.Hour)
	parent, signer := template, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		r.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		r.t.Fatal(err)
	}
	return cert, key
}

// sign makes a leaf named id; edits come last.
func (r root) sign(id string, edit ...func(*x509.Certificate)) *tls.Certificate {
	uri, err := url.Parse(id)
	if err != nil {
		r.t.Fatal(err)
	}
	template := &x509.Certificate{
		URIs:        []*url.URL{uri},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	for _, e := range edit {
		e(template)
	}
	cert, key := r.make(template, &r)
	return &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
}

// remote is an agent whose node API is on the network.
type remote struct {
	t       *testing.T
	addr    string
	hub     *tap.Hub
	gate    *mtls.Gate
	anchors atomic.Pointer[x509.CertPool]
	cert    atomic.Pointer[tls.Certificate]
}

func (n *remote) trust(r root) {
	pool := x509.NewCertPool()
	pool.AddCert(r.cert)
	n.anchors.Store(pool)
	n.cert.Store(r.sign("spiffe://mesh/node/node-1"))
}

func startRemote(t *testing.T, r root, s *Server) *remote {
	t.Helper()
	n := &remote{t: t, hub: tap.NewHub(), gate: mtls.NewGate(mtls.GateOptions{Slots: 1, MaxWait: time.Minute})}
	n.trust(r)
	s.Hub, s.Source = n.hub, fake{}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n.addr = ln.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- s.ServeTLS(ctx, ln, Credentials{
			Certificate: func() (*tls.Certificate, error) { return n.cert.Load(), nil },
			Anchors:     func() (*x509.CertPool, error) { return n.anchors.Load(), nil },
			TrustDomain: "mesh", Gate: n.gate,
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return n
}

// call asks for the status with cert as the client's.
func (n *remote) call(cert *tls.Certificate) (string, error) {
	client := n.client(credentials.NewTLS(clientTLS(cert)))
	ctx, cancel := context.WithTimeout(n.t.Context(), 10*time.Second)
	defer cancel()
	st, err := client.Status(ctx, &agentv1.StatusRequest{}, grpc.WaitForReady(false))
	return st.GetNode(), err
}

func clientTLS(cert *tls.Certificate) *tls.Config {
	c := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}
	if cert != nil {
		c.Certificates = []tls.Certificate{*cert}
	}
	return c
}

func (n *remote) client(creds credentials.TransportCredentials) agentv1.NodeClient {
	n.t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+n.addr, grpc.WithTransportCredentials(creds))
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = conn.Close() })
	return agentv1.NewNodeClient(conn)
}

const controllerID = "spiffe://mesh/controller"

func TestOnlyTheControllerMayCall(t *testing.T) {
	ours, other := newRoot(t), newRoot(t)
	n := startRemote(t, ours, &Server{})
	for deadline := time.Now().Add(10 * time.Second); ; { // until it listens
		if name, err := n.call(ours.sign(controllerID)); err == nil && name == "node-1" {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("the controller is refused: %v", err)
		}
	}
	for name, cert := range map[string]*tls.Certificate{
		"no certificate":     nil,
		"a pod":              ours.sign("spiffe://mesh/ns/underlane-system/sa/underlane-controller"),
		"a node":             ours.sign("spiffe://mesh/node/node-2"),
		"a node named so":    ours.sign("spiffe://mesh/node/controller"),
		"another mesh":       ours.sign("spiffe://elsewhere/controller"),
		"another root":       other.sign(controllerID),
		"two names":          ours.sign(controllerID, func(c *x509.Certificate) { c.URIs = append(c.URIs, c.URIs[0]) }),
		"a query":            ours.sign(controllerID + "?x=y"),
		"for servers only":   ours.sign(controllerID, func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[1:] }),
		"expired":            ours.sign(controllerID, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }),
		"a CA":               ours.sign(controllerID, func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }),
		"a DNS name instead": ours.sign(controllerID, func(c *x509.Certificate) { c.URIs, c.DNSNames = nil, []string{"controller"} }),
	} {
		if node, err := n.call(cert); status.Code(err) != codes.Unavailable {
			t.Errorf("%s: node %q, err %v", name, node, err)
		}
	}
	client := n.client(insecure.NewCredentials())
	if _, err := client.Status(t.Context(), &agentv1.StatusRequest{}); status.Code(err) != codes.Unavailable {
		t.Errorf("plaintext: %v", err)
	}
}

// Rotation and renewal take effect without a restart.
func TestAnchorsAndCertificateAreFollowed(t *testing.T) {
	before, after := newRoot(t), newRoot(t)
	n := startRemote(t, before, &Server{})
	dial := func() *x509.Certificate {
		t.Helper()
		conn, err := tls.Dial("tcp", n.addr, clientTLS(nil))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0]
	}
	waitListening(t, n.addr)
	if got := dial(); got.CheckSignatureFrom(before.cert) != nil || got.URIs[0].String() != "spiffe://mesh/node/node-1" {
		t.Errorf("served %v by %v", got.URIs, got.Issuer)
	}
	n.trust(after)
	if err := dial().CheckSignatureFrom(after.cert); err != nil {
		t.Error("the old certificate is served:", err)
	}
	if _, err := n.call(before.sign(controllerID)); err == nil {
		t.Error("an anchor that was removed is believed")
	}
	if _, err := n.call(after.sign(controllerID)); err != nil {
		t.Error(err)
	}
}

func waitListening(t *testing.T, addr string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			_ = conn.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func TestTapsAreBounded(t *testing.T) {
	ours := newRoot(t)
	n := startRemote(t, ours, &Server{MaxTaps: 2})
	waitListening(t, n.addr)
	client := n.client(credentials.NewTLS(clientTLS(ours.sign(controllerID))))
	open := func() (context.CancelFunc, error) {
		ctx, cancel := context.WithCancel(t.Context())
		stream, err := client.Tap(ctx, &agentv1.TapRequest{})
		if err == nil {
			if head, _ := stream.Header(); head == nil {
				_, err = stream.Recv()
			}
		}
		return cancel, err
	}
	first, err := open()
	if err != nil {
		t.Fatal(err)
	}
	second, err := open()
	if err != nil {
		t.Fatal(err)
	}
	defer second()
	third, err := open()
	third()
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a third of two: %v", err)
	}
	first()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		again, err := open()
		defer again()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("a tap that ended still counts: ", err)
		}
	}
}

// A stream ends with the certificate that it was opened with.
func TestTapEndsWithTheCertificate(t *testing.T) {
	ours := newRoot(t)
	n := startRemote(t, ours, &Server{})
	waitListening(t, n.addr)
	short := ours.sign(controllerID, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(2 * time.Second) })
	stream, err := n.client(credentials.NewTLS(clientTLS(short))).Tap(t.Context(), &agentv1.TapRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.Unauthenticated {
		t.Error(err)
	}
}

// Strangers without number keep out neither the controller that is connected nor
// the one that comes.
func TestStrangersAreBounded(t *testing.T) {
	ours := newRoot(t)
	n := startRemote(t, ours, &Server{})
	waitListening(t, n.addr)
	client := n.client(credentials.NewTLS(clientTLS(ours.sign(controllerID))))
	stream, err := client.Tap(t.Context(), &agentv1.TapRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Header(); err != nil {
		t.Fatal(err)
	}
	var held []net.Conn
	for range 2 * maxFromOne {
		conn, err := net.Dial("tcp", n.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		held = append(held, conn)
	}
	for i, conn := range held[:maxFromOne] {
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := conn.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("stranger %d is kept", i)
		}
	}
	if _, err := n.call(ours.sign(controllerID)); err != nil {
		t.Error("another replica:", err)
	}
	n.hub.Emit(&tap.Event{})
	if _, err := stream.Recv(); err != nil {
		t.Error("the tap that runs:", err)
	}
}

// TestHandshakesPassTheGate: none is computed while others have all slots, and one that
// waits for its peer has none.
func TestHandshakesPassTheGate(t *testing.T) {
	ours := newRoot(t)
	n := startRemote(t, ours, &Server{})
	waitListening(t, n.addr)
	stalled, err := net.Dial("tcp", n.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer stalled.Close()
	for n.gate.Stats().Active < 1 {
		time.Sleep(time.Millisecond)
	}
	if _, err := n.call(ours.sign(controllerID)); err != nil {
		t.Fatalf("beside a peer that says nothing: %v", err)
	}
	turn, err := n.gate.Enter(t.Context(), netip.MustParseAddr("10.0.0.1"), true)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := n.call(ours.sign(controllerID))
		done <- err
	}()
	for n.gate.Stats().Waiting < 1 {
		select {
		case err := <-done:
			t.Fatalf("the handshake did not wait: %v", err)
		case <-time.After(time.Millisecond):
		}
	}
	turn.Leave(false)
	if err := <-done; err != nil {
		t.Error(err)
	}
	stalled.Close()
	for deadline := time.Now().Add(10 * time.Second); n.gate.Stats().Active > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after all have ended: %+v", n.gate.Stats())
		}
	}
}
