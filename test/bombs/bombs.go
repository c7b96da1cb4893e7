// Package bombs makes certificate chains that cost a verifier much more processor
// time than they cost their maker.
package bombs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net/url"
	"sync"
	"syscall"
	"testing"
	"time"
)

// chains has the chains of this process by their arguments. A large one takes seconds
// to make under the race detector.
var chains sync.Map

// Chain returns a leaf for id, with its own key on curve, and n CAs. With sameName
// all CAs have the same name, otherwise each is above the one before it. The chain
// leads to no trust anchor, so a verifier tries all combinations. Equal arguments give the same chain.
func Chain(t testing.TB, id string, curve elliptic.Curve, n int, sameName bool) tls.Certificate {
	t.Helper()
	arguments := fmt.Sprint(id, curve.Params().Name, n, sameName)
	if c, ok := chains.Load(arguments); ok {
		return c.(tls.Certificate)
	}
	c := newChain(t, id, curve, n, sameName)
	chains.Store(arguments, c)
	return c
}

func newChain(t testing.TB, id string, curve elliptic.Curve, n int, sameName bool) tls.Certificate {
	t.Helper()
	name := func(i int) pkix.Name {
		if sameName {
			i = 0
		}
		return pkix.Name{CommonName: fmt.Sprintf("bomb %d", i)}
	}
	keys := make([]*ecdsa.PrivateKey, n+1) // the last one is the leaf's
	for i := range keys {
		var err error
		if keys[i], err = ecdsa.GenerateKey(curve, rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	uri, err := url.Parse(id)
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{
		URIs: []*url.URL{uri}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	// With one name for all, the CA whose key signed the leaf is the last in the chain.
	signer := 0
	if sameName {
		signer = max(n-1, 0)
	}
	out := tls.Certificate{Certificate: [][]byte{sign(t, leaf, name(0), keys[n].Public(), keys[signer])}, PrivateKey: keys[n]}
	for i := range n {
		ca := &x509.Certificate{Subject: name(i), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
		above := min(i+1, n-1)
		out.Certificate = append(out.Certificate, sign(t, ca, name(i+1), keys[i].Public(), keys[above]))
	}
	return out
}

func sign(t testing.TB, c *x509.Certificate, by pkix.Name, pub crypto.PublicKey, key crypto.Signer) []byte {
	t.Helper()
	c.SerialNumber = big.NewInt(1)
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, c, &x509.Certificate{Subject: by}, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// Parse returns the certificates of c, leaf first.
func Parse(t testing.TB, c tls.Certificate) []*x509.Certificate {
	t.Helper()
	var out []*x509.Certificate
	for _, der := range c.Certificate {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, cert)
	}
	return out
}

// Client returns the configuration of a client that accepts any server, and sends c
// even if the server's hints do not ask for it.
func Client(c tls.Certificate, alpn ...string) *tls.Config {
	return &tls.Config{
		InsecureSkipVerify: true, NextProtos: alpn,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &c, nil },
	}
}

// Refused makes a handshake at addr with a Client configuration and returns its
// error. In TLS 1.3 a refusal is the error of the first read.
func Refused(addr string, c *tls.Config) error {
	conn, err := tls.Dial("tcp", addr, c)
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	_, err = conn.Read(make([]byte, 1))
	return err
}

// Cost returns the processor time of this process for f, the least of all rounds.
func Cost(rounds int, f func()) time.Duration {
	least := time.Duration(1<<63 - 1)
	for range rounds {
		before := used()
		f()
		least = min(least, used()-before)
	}
	return least
}

func used() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// CheckCost fails the test if a handshake with a bomb costs, for both ends together,
// many times as much as one with an ordinary untrusted chain. Without bounds, 99
// CAs with the same name and P-521 keys cost three hundred times as much.
func CheckCost(t testing.TB, id string, handshake func(tls.Certificate)) {
	t.Helper()
	const times = 30
	ordinary := Chain(t, id, elliptic.P256(), 1, false)
	bomb := Chain(t, id, elliptic.P521(), 99, true)
	cheap := max(Cost(5, func() { handshake(ordinary) }), time.Millisecond)
	dear := Cost(5, func() { handshake(bomb) })
	t.Logf("processor time of both ends: ordinary %s, bomb %s", cheap, dear)
	if dear > times*cheap {
		t.Errorf("a bomb costs %s, %d times what an ordinary chain does (%s)", dear, dear/cheap, cheap)
	}
}
