package jwks

import (
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// The controller's image has no file of authorities. All the same it takes the certificates of
// those that Mozilla trusts, and no others.
func TestAuthorities(t *testing.T) {
	const inside = "UNDERLANE_TEST_AUTHORITIES"
	if os.Getenv(inside) == "" {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestAuthorities$", "-test.v")
		cmd.Env = append(os.Environ(), inside+"=1", "SSL_CERT_FILE=/nonexistent", "SSL_CERT_DIR=/nonexistent")
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "--- PASS: TestAuthorities") {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	s := httptest.NewTLSServer(http.NotFoundHandler())
	defer s.Close()
	k := New(http.DefaultTransport, nil)
	if _, err := k.get(t.Context(), s.URL, 10); err == nil || !strings.Contains(err.Error(), "certificate signed by unknown authority") {
		t.Errorf("a certificate of nobody: %v", err)
	}
	good, known := 0, 0
	for root := range bundle.Roots() {
		cert, err := x509.ParseCertificate(root.Certificate)
		if err != nil || root.Constraint != nil {
			continue
		}
		known++
		_, err = cert.Verify(x509.VerifyOptions{CurrentTime: cert.NotBefore.Add(time.Hour), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
		if err == nil {
			good++
		}
	}
	if good < known || known < 50 {
		t.Errorf("%d of %d authorities are known", good, known)
	}
}
