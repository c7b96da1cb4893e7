package health

import (
	"crypto/ed25519"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/underlane/underlane/internal/version"
	"github.com/underlane/underlane/pkg/cli/check"
	"github.com/underlane/underlane/pkg/cli/newest"
	"github.com/underlane/underlane/pkg/release"
)

// A release asks whether it is the newest, warns if it is not, and is silent where there is
// no network. What is no release asks nobody.
func TestCheckNewest(t *testing.T) {
	run := func() []check.Result {
		var all []check.Result
		for _, category := range check.Run(t.Context(), releases(), nil).Categories {
			all = append(all, category.Checks...)
		}
		return all
	}
	if got := run(); got != nil {
		t.Errorf("a build that is no release: %v", got)
	}

	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	text := []byte(`{"channel":"stable","newest":"v0.3.0","releases":[{"version":"v0.3.0","date":"2026-11-30"}]}`)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, ".sig") {
			w.Write(ed25519.Sign(private, text))
			return
		}
		w.Write(text)
	}))
	defer s.Close()
	was := []string{version.Version, version.Channel, version.BaseURL, version.PublicKey}
	defer func() {
		version.Version, version.Channel, version.BaseURL, version.PublicKey = was[0], was[1], was[2], was[3]
	}()
	version.Channel, version.BaseURL, version.PublicKey = release.Stable, s.URL, base64.StdEncoding.EncodeToString(public)

	version.Version = "v0.3.0"
	if got := run(); len(got) != 1 || got[0].Result != check.Success {
		t.Errorf("the newest: %v", got)
	}
	version.Version = "v0.2.0"
	if got := run(); len(got) != 1 || got[0].Result != check.Warning || !strings.Contains(got[0].Error, "v0.3.0 of 2026-11-30") || !strings.Contains(got[0].Hint, "/install.sh | UNDERLANE_CHANNEL=stable sh") {
		t.Errorf("an older one: %v", got)
	}
	s.Close()
	if got := run(); len(got) != 1 || got[0].Result != check.Success {
		t.Errorf("without a network: %v", got)
	}
	t.Setenv(newest.Variable, "off")
	if got := run(); got != nil {
		t.Errorf("%s=off: %v", newest.Variable, got)
	}
}
