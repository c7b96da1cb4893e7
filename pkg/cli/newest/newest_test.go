package newest

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/underlane/underlane/internal/version"
	"github.com/underlane/underlane/pkg/release"
)

// released makes this program the release of a version, whose releases are at url.
func released(t *testing.T, v, url string) ed25519.PrivateKey {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	was := []string{version.Version, version.Channel, version.BaseURL, version.PublicKey}
	t.Cleanup(func() {
		version.Version, version.Channel, version.BaseURL, version.PublicKey = was[0], was[1], was[2], was[3]
	})
	version.Version, version.Channel, version.BaseURL = v, release.Stable, url
	version.PublicKey = base64.StdEncoding.EncodeToString(public)
	return private
}

func TestAllowed(t *testing.T) {
	if Allowed() {
		t.Error("a build that is no release asks")
	}
	released(t, "v0.2.0", "https://releases.underlane.example")
	if Allowed() {
		t.Error("a name that does not exist is asked for")
	}
	version.BaseURL = "http://127.0.0.1:1"
	if !Allowed() {
		t.Error("a release does not ask")
	}
	t.Setenv(Variable, "off")
	if Allowed() {
		t.Errorf("%s=off has no effect", Variable)
	}
}

func TestOf(t *testing.T) {
	files := map[string][]byte{}
	var asked []*http.Request
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r)
		if text, ok := files[r.URL.Path]; ok {
			w.Write(text)
			return
		}
		http.NotFound(w, r)
	}))
	defer s.Close()
	key := released(t, "v0.1.0", s.URL)
	c, err := release.Channel{Channel: release.Stable}.With(release.Release{Version: "v0.2.0", Date: "2026-11-30", Needs: release.Needs{Kubernetes: "1.30", Linux: "5.15"}})
	if err != nil {
		t.Fatal(err)
	}
	text, err := c.Text()
	if err != nil {
		t.Fatal(err)
	}
	files["/channels/stable.json"] = text
	if _, err := Of(t.Context(), release.Stable); !errors.Is(err, ErrUnreachable) {
		t.Errorf("without a signature: %v", err)
	}
	files["/channels/stable.json.sig"] = ed25519.Sign(key, text)
	got, err := Of(t.Context(), release.Stable)
	if err != nil || got.Newest != "v0.2.0" {
		t.Fatalf("%+v, error %v; want v0.2.0", got, err)
	}
	if err := Outdated(got); err == nil || !strings.Contains(err.Error(), "v0.2.0 of 2026-11-30") {
		t.Error(err)
	}
	version.Version = "v0.2.0"
	if err := Outdated(got); err != nil {
		t.Error(err)
	}
	for _, r := range asked {
		if r.UserAgent() != "underlane" || r.URL.RawQuery != "" || len(r.Header) > 2 { // and Accept-Encoding
			t.Errorf("the request tells who asks: %v", r.Header)
		}
	}
	files["/channels/stable.json"] = []byte(strings.ReplaceAll(string(text), "v0.2.0", "v0.3.0"))
	if _, err := Of(t.Context(), release.Stable); !errors.Is(err, release.ErrSignature) {
		t.Errorf("another file: %v", err)
	}
	s.Close()
	if _, err := Of(t.Context(), release.Stable); !errors.Is(err, ErrUnreachable) {
		t.Errorf("without a server: %v", err)
	}
}
