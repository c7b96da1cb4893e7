package tapapi

import (
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"errors"
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
