package proxytest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"sync"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/rawio"
)

// TLSPair returns the two ends of a TLS connection after the handshake, and the TCP
// connection below the server's end.
func TLSPair(t testing.TB, alpn ...string) (client, server *conn.Secure, raw *rawio.Conn) {
	t.Helper()
	c, s := Pair(t)
	belowClient, belowServer := &conn.Transport{Conn: c}, &conn.Transport{Conn: s}
	tlsClient := tls.Client(belowClient, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, NextProtos: alpn})
	tlsServer := tls.Server(belowServer, &tls.Config{Certificates: []tls.Certificate{selfSigned(t)}, MinVersion: tls.VersionTLS13, NextProtos: alpn})
	var shakes sync.WaitGroup
	shakes.Go(func() {
		if err := tlsServer.Handshake(); err != nil {
			t.Error(err)
		}
	})
	if err := tlsClient.Handshake(); err != nil {
		t.Fatal(err)
	}
	shakes.Wait()
	return conn.NewSecure(tlsClient, belowClient), conn.NewSecure(tlsServer, belowServer), s
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
