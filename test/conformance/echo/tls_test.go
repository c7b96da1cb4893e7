package echo

import (
	"crypto/tls"
	"crypto/x509"
	"testing"
)

// clientless returns a server's configuration with the certificate.
func clientless(cert tls.Certificate) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{cert}}
}

// trusting returns a client's configuration that trusts the certificate of "pod".
func trusting(t *testing.T, cert tls.Certificate) *tls.Config {
	t.Helper()
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return &tls.Config{RootCAs: pool, ServerName: "pod"}
}
