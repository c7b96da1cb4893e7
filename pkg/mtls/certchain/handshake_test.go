package certchain

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/underlane/underlane/test/bombs"
)

// shake does a handshake in which both sides show a certificate, and returns the errors of
// the server, whose transport is a Conn, and how many bytes the server read meanwhile.
// Then the client sends much more.
func shake(t *testing.T, ours, theirs tls.Certificate) (read int, err error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	data := make([]byte, 100<<10)
	go func() {
		raw, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			return
		}
		defer raw.Close()
		c := tls.Client(raw, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{theirs}})
		if c.Handshake() == nil {
			_, _ = c.Write(data)
		}
	}()
	raw, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	_ = raw.SetDeadline(time.Now().Add(time.Minute))
	below := NewConn(raw)
	parsed := false
	c := tls.Server(below, &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{ours}, ClientAuth: tls.RequireAnyClientCert,
		VerifyConnection: func(cs tls.ConnectionState) error { parsed = true; return Check(cs.PeerCertificates) },
	})
	err = c.Handshake()
	read = MaxHandshake - below.left
	if err != nil {
		if parsed && errors.Is(err, ErrHandshake) {
			t.Error("the chain was parsed, and refused for its size in the handshake")
		}
		return read, err
	}
	below.Done()
	got := make([]byte, len(data))
	if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, data) {
		t.Errorf("after the handshake: %v", err)
	}
	return read, nil
}

// large returns a chain of three certificates that has almost MaxBytes.
func large(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	out := tls.Certificate{PrivateKey: key}
	size := 0
	for i := range 3 {
		template := &x509.Certificate{
			SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour),
			Subject:     pkix.Name{CommonName: string(rune('a' + i))},
			OCSPServer:  []string{string(bytes.Repeat([]byte{'x'}, MaxBytes/3-450))},
			IsCA:        i > 0,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		size += len(der)
		out.Certificate = append(out.Certificate, der)
	}
	if size > MaxBytes || size < MaxBytes-500 {
		t.Fatalf("the chain has %d bytes, want little below %d", size, MaxBytes)
	}
	return out
}

// TestHandshakeBytes checks that a handshake with the largest chain within the bounds
// passes, whatever follows it, and that of a larger one no more than the limit is read.
func TestHandshakeBytes(t *testing.T) {
	small := bombs.Chain(t, id, elliptic.P256(), 0, false)
	for name, theirs := range map[string]tls.Certificate{"a leaf": small, "a chain of the largest size": large(t)} {
		for range 20 {
			if _, err := shake(t, small, theirs); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	for name, theirs := range map[string]tls.Certificate{
		"99 CAs, P-521": bombs.Chain(t, id, elliptic.P521(), 99, true),
		"99 CAs, P-256": bombs.Chain(t, id, elliptic.P256(), 99, true),
	} {
		read, err := shake(t, small, theirs)
		if !errors.Is(err, ErrHandshake) || !errors.Is(err, ErrBounds) || read > MaxHandshake {
			t.Errorf("%s: %v after %d bytes, want %v", name, err, read, ErrHandshake)
		}
	}
}

// TestConnCostsNothing: after the handshake a read allocates nothing.
func TestConnCostsNothing(t *testing.T) {
	c := NewConn(zeros{})
	c.Done()
	p := make([]byte, 100)
	if n := testing.AllocsPerRun(100, func() { _, _ = c.Read(p) }); n != 0 {
		t.Errorf("%v allocations for a read, want 0", n)
	}
}

type zeros struct{ net.Conn }

func (zeros) Read(p []byte) (int, error) { return len(p), nil }
