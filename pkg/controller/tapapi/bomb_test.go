package tapapi

import (
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/underlane/underlane/pkg/mtls/certchain"
	"github.com/underlane/underlane/test/bombs"
)

// A chain that is costly to check ends the handshake, and one that passes it is
// checked within the same bounds at each call.
func TestCertificateBombs(t *testing.T) {
	w := newWorld(t)
	addr := w.server.Addr().String()
	bomb := bombs.Chain(t, "spiffe://x/y", elliptic.P521(), 99, true)
	if err := bombs.Refused(addr, bombs.Client(bomb, "http/1.1")); err == nil {
		t.Error("a bomb is not refused in the handshake")
	}
	r := &http.Request{TLS: &tls.ConnectionState{PeerCertificates: bombs.Parse(t, bomb)}}
	if _, err := (&front{roots: x509.NewCertPool()}).authenticate(r); !errors.Is(err, certchain.ErrBounds) {
		t.Error(err)
	}
	bombs.CheckCost(t, "spiffe://x/y", func(c tls.Certificate) {
		client := http.Client{Transport: &http.Transport{TLSClientConfig: bombs.Client(c, "http/1.1"), DisableKeepAlives: true}}
		resp, err := client.Get("https://" + addr + "/apis/tap.underlane.io/v1alpha1/watch/namespaces/x/tap")
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode < 400 {
				t.Errorf("answered %s", resp.Status)
			}
		}
	})
}

// TestBombIsNotRead: a chain that is much too large ends the handshake before the
// certificates are parsed. Sizes after the handshake are not bounded by it.
func TestBombIsNotRead(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	own := bombs.Chain(t, "spiffe://x/y", elliptic.P256(), 0, false)
	ln := &tlsListener{inner, &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{own}, ClientAuth: tls.RequestClientCert,
	}}
	defer ln.Close()
	shake := func(c tls.Certificate) (net.Conn, error) {
		go func() {
			conn, err := tls.Dial("tcp", inner.Addr().String(), bombs.Client(c, "http/1.1"))
			if err == nil {
				_, _ = conn.Write(make([]byte, 100<<10))
				_ = conn.Close()
			}
		}()
		conn, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn, conn.(*tls.Conn).Handshake()
	}
	if _, err := shake(bombs.Chain(t, "spiffe://x/y", elliptic.P256(), 99, true)); !errors.Is(err, certchain.ErrHandshake) {
		t.Errorf("a bomb: %v, want %v", err, certchain.ErrHandshake)
	}
	conn, err := shake(own)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, conn); n != 100<<10 || err != nil {
		t.Errorf("read %d, %v after the handshake", n, err)
	}
}
