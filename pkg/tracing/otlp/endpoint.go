package otlp

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"

	"github.com/underlane/underlane/pkg/mtls/certchain"
)

// Endpoint is where a receiver is, and how it is spoken to.
type Endpoint struct {
	GRPC bool
	TLS  bool
	Host string // host:port
	Path string // HTTP: before /v1/traces; no slash at the end
}

// Ports of OTLP, where a URL has none.
const (
	grpcPort = "4317"
	httpPort = "4318"
)

// ParseEndpoint parses a URL: grpc://HOST[:PORT], http://HOST[:PORT][/PATH], or with TLS
// grpcs:// or https://.
func ParseEndpoint(s string) (Endpoint, error) {
	u, err := url.Parse(s)
	if err != nil {
		return Endpoint{}, fmt.Errorf("OTLP endpoint: %w", err)
	}
	var e Endpoint
	port := httpPort
	switch u.Scheme {
	case "grpc", "grpcs":
		e.GRPC, port = true, grpcPort
		if strings.Trim(u.Path, "/") != "" {
			return e, fmt.Errorf("OTLP endpoint %q: over gRPC there is no path", s)
		}
	case "http", "https":
		e.Path = strings.TrimRight(u.Path, "/")
	default:
		return e, fmt.Errorf("OTLP endpoint %q: want grpc://HOST:PORT or http://HOST:PORT, or grpcs:// or https:// with TLS", s)
	}
	e.TLS = strings.HasSuffix(u.Scheme, "s")
	if u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return e, fmt.Errorf("OTLP endpoint %q: want a host, and neither user nor query", s)
	}
	if u.Port() != "" {
		port = u.Port()
	}
	e.Host = net.JoinHostPort(u.Hostname(), port)
	return e, nil
}

// tlsConfig returns the configuration for connections to the receiver. Its chain must lead
// to an authority in the PEM file ca, or to one of the system's if ca is "".
func (e Endpoint) tlsConfig(ca string) (*tls.Config, error) {
	var roots *x509.CertPool
	if ca != "" {
		text, err := os.ReadFile(ca)
		if err != nil {
			return nil, fmt.Errorf("authority of the OTLP receiver: %w", err)
		}
		if roots = x509.NewCertPool(); !roots.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("authority of the OTLP receiver: %s has no certificate in PEM", ca)
		}
	}
	name, _, err := net.SplitHostPort(e.Host)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12, ServerName: name,
		InsecureSkipVerify: true, // VerifyConnection does it, within the bounds of certchain
		VerifyConnection: func(c tls.ConnectionState) error {
			if len(c.PeerCertificates) == 0 {
				return errors.New("the OTLP receiver has no certificate")
			}
			return certchain.Verify(c.PeerCertificates, x509.VerifyOptions{Roots: roots, DNSName: name})
		},
	}, nil
}
