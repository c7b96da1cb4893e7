package l7proxy

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"sync"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/rawio"
	"github.com/underlane/underlane/pkg/tap"
)

// TestTruncationIsNoEnd: a FIN ends an mTLS stream only after close_notify.
// Without, anybody on the way could end a response early and nobody would know.
func TestTruncationIsNoEnd(t *testing.T) {
	for _, proper := range []bool{true, false} {
		client, server, raw := tlsPair(t)
		if _, err := server.Write([]byte("half of")); err != nil {
			t.Fatal(err)
		}
		if proper {
			_ = server.Close()
		} else {
			_ = raw.CloseWrite()
		}
		got, err := io.ReadAll(client)
		if string(got) != "half of" || (err == nil) != proper {
			t.Errorf("proper end %v: %q, %v", proper, got, err)
		}
		if !proper && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%v", err)
		}
	}
}

// TestHalfCloseOfTLS: one direction's end leaves the other open.
func TestHalfCloseOfTLS(t *testing.T) {
	client, server, _ := tlsPair(t)
	if err := client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(server); len(got) > 0 || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := server.Write([]byte("later")); err != nil {
		t.Fatal(err)
	}
	server.Close()
	if got, err := io.ReadAll(client); string(got) != "later" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

func tlsPair(t testing.TB, alpn ...string) (client, server *tls.Conn, rawServer *rawio.Conn) {
	t.Helper()
	l := rawListen(t)
	c, err := (&loopback{}).Dial(t.Context(), "", l.Addr())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	for _, raw := range []*rawio.Conn{c, s} {
		_ = raw.SetDeadline(time.Now().Add(20 * time.Second))
		t.Cleanup(func() { raw.Close() })
	}
	client = tls.Client(&transport{Conn: c}, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, NextProtos: alpn})
	server = tls.Server(&transport{Conn: s}, &tls.Config{Certificates: []tls.Certificate{selfSigned(t)}, MinVersion: tls.VersionTLS13, NextProtos: alpn})
	var shakes sync.WaitGroup
	shakes.Go(func() {
		if err := server.Handshake(); err != nil {
			t.Error(err)
		}
	})
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	shakes.Wait()
	return client, server, s
}

func selfSigned(t testing.TB) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// TestPlaintextFallbackIsNotKept: the request after finds out whether the agent
// is back.
func TestPlaintextFallbackIsNotKept(t *testing.T) {
	e := newEnv(t)
	d := &h1{s: &Session{proxy: e.proxy}}
	for status, kept := range map[string]bool{"true": true, "agent-down": false} {
		c, _ := pooledConn(t)
		key := PoolKey{Source: status}
		d.release(newH1Upstream(c, &Choice{Key: key, TLS: status}), true)
		if found := e.proxy.pool.get(key, false) != nil; found != kept {
			t.Errorf("tls=%s: kept %v", status, found)
		}
	}
}

func TestConnectReasons(t *testing.T) {
	e := newEnv(t)
	_, err := e.proxy.dialPlain(t.Context(), e.local, &Choice{Peer: tap.Peer{Addr: mustAddr(nobody(t))}})
	if reasonOf(err) != mesh.ReasonConnectRefused {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := e.proxy.dialPlain(ctx, e.local, &Choice{Peer: tap.Peer{Addr: mustAddr("192.0.2.1:9")}}); err == nil {
		t.Error("connected with a context that is done")
	}
}

func TestOlderViewDoesNotBringEndpointsBack(t *testing.T) {
	b := balancers{byPort: make(map[portKey]*portBalancer)}
	svc := &mesh.Service{Name: "s", Namespace: "n"}
	older := &mesh.ServicePort{Port: 80, Endpoints: []mesh.Endpoint{{Addr: portOf(1), Ready: true}, {Addr: portOf(2), Ready: true}}}
	newer := &mesh.ServicePort{Port: 80, Endpoints: []mesh.Endpoint{{Addr: portOf(1), Ready: true}}}
	local := &mesh.Workload{}
	b.get(svc, older, local, true, 1)
	b.get(svc, newer, local, true, 2)
	if n := b.get(svc, older, local, true, 1).Len(); n != 1 {
		t.Errorf("%d endpoints after an older view was seen again, want 1", n)
	}
	if n := b.get(svc, older, local, true, 3).Len(); n != 2 {
		t.Errorf("%d endpoints in a view that has them again, want 2", n)
	}
}
