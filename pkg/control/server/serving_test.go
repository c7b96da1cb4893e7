package server

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/underlane/underlane/pkg/control"
	"github.com/underlane/underlane/pkg/mtls/ca"
)

// TestServingCertificateFollowsTheIssuer: the old anchor may be taken away, and
// agents must know the controller by the new one then, without its restart.
func TestServingCertificateFollowsTheIssuer(t *testing.T) {
	authority, err := ca.Open(t.TempDir(), "cluster.local")
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := TLSConfig(authority, nil, []net.IP{net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	get := func() *tls.Certificate {
		c, err := cfg.GetCertificate(&tls.ClientHelloInfo{})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	before := get()
	if get() != before {
		t.Error("issued for each handshake")
	}
	if err := authority.Rotate(); err != nil {
		t.Fatal(err)
	}
	onlyNew := x509.NewCertPool()
	onlyNew.AddCert(authority.Anchors()[0])
	if _, err := get().Leaf.Verify(x509.VerifyOptions{Roots: onlyNew, DNSName: control.ServerName}); err != nil {
		t.Error(err)
	}
}

func TestOwnCertificateIsRenewedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issued, failing := 0, false
		own := &OwnCertificate{
			Issue: func() (tls.Certificate, error) {
				if failing {
					return tls.Certificate{}, errors.New("no key")
				}
				issued++
				return tls.Certificate{Leaf: &x509.Certificate{NotAfter: time.Now().Add(10 * time.Hour)}}, nil
			},
			Issuer: func() []byte { return []byte("one") },
		}
		for _, step := range []struct {
			after time.Duration
			want  int
		}{{0, 1}, {6 * time.Hour, 1}, {time.Hour, 2}, {6 * time.Hour, 2}} {
			time.Sleep(step.after)
			if _, err := own.Get(); err != nil || issued != step.want {
				t.Errorf("%s later: issued %d times, want %d: %v", step.after, issued, step.want, err)
			}
		}
		failing = true
		time.Sleep(time.Hour)
		if _, err := own.Get(); err == nil {
			t.Error("a certificate that could not be renewed was handed out")
		}
	})
}
