package release

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestChannelOf(t *testing.T) {
	for version, want := range map[string]string{
		"v0.2.0": Stable, "v1.10.3": Stable, "v0.3.0-edge.1": Edge, "v0.3.0-edge.20": Edge,
		"0.2.0": "", "v0.2": "", "v0.2.0-rc.1": "", "v0.2.0-edge": "", "v0.2.0-edge.x": "", "v0.2.0+b": "",
		"v0.1.0-12-gabcdef0": "", "dev": "", "": "", "v0.2.0-edge.-1": "",
	} {
		got, err := ChannelOf(version)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v; want %q", version, got, err, want)
		}
	}
}

func TestCheckUpgrade(t *testing.T) {
	for _, c := range []struct {
		from, to string
		refused  string
	}{
		{"v0.1.0", "v0.2.0", ""},
		{"0.1.0", "v0.2.0", ""}, // an image tag of the chart of v0.1.0
		{"v0.2.0", "v0.2.5", ""},
		{"v0.2.5", "v0.1.0", ""}, // a roll-back
		{"v0.2.0", "v0.3.0-edge.1", ""},
		{"v0.1.0", "v0.3.0", "skips v0.2:"},
		{"v0.1.0", "v0.3.0-edge.1", "skips v0.2:"},
		{"v0.9.1", "v0.11.0", "skips v0.10:"},
		{"v0.3.0", "v0.1.9", "skips v0.2:"},
		{"v0.9.0", "v1.0.0", "another major version"},
		{"dev", "v0.3.0", ""},
		{"v0.1.0", "9d686ee", ""},
	} {
		err := CheckUpgrade(c.from, c.to)
		if c.refused == "" && err != nil || c.refused != "" && (!errors.Is(err, ErrSkips) || !strings.Contains(err.Error(), c.refused)) {
			t.Errorf("%s to %s: %v", c.from, c.to, err)
		}
	}
	if got := UpgradesFrom("v0.3.0-edge.1"); got != "v0.2.0" {
		t.Error(got)
	}
}

func TestChannel(t *testing.T) {
	one := Release{Version: "v0.1.0", Date: "2026-11-22", UpgradeFrom: "v0.0.0", Needs: Needs{Kubernetes: "1.30", Linux: "5.15"}}
	two := Release{Version: "v0.2.0", Date: "2026-11-30", UpgradeFrom: "v0.1.0", Needs: one.Needs}
	c := Channel{Channel: Stable}
	for _, r := range []Release{one, two, two} {
		var err error
		if c, err = c.With(r); err != nil {
			t.Fatal(err)
		}
	}
	text, err := c.Text()
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseChannel(Stable, text)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(Channel{Stable, "v0.2.0", []Release{two, one}}, got); d != "" {
		t.Error(d)
	}
	if _, err := c.With(one); err == nil {
		t.Error("an older release has become the newest")
	}
	for what, bad := range map[string]string{
		"another channel": strings.ReplaceAll(string(text), `"stable"`, `"edge"`),
		"no releases":     `{"channel":"stable","newest":"v0.2.0"}`,
		"older newest":    strings.ReplaceAll(string(text), `"v0.1.0"`, `"v0.9.0"`),
		"an edge":         strings.ReplaceAll(string(text), `"v0.1.0"`, `"v0.1.0-edge.1"`),
		"no date":         strings.ReplaceAll(string(text), `2026-11-22`, `22.11.`),
		"cut":             string(text[:100]),
		"too large":       string(text) + strings.Repeat(" ", MaxChannelBytes),
	} {
		if _, err := ParseChannel(Stable, []byte(bad)); err == nil {
			t.Errorf("%s: no error", what)
		}
	}
}

func TestVerify(t *testing.T) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	key, text := base64.StdEncoding.EncodeToString(public), []byte("sums")
	sig := ed25519.Sign(private, text)
	if err := Verify(key, text, sig); err != nil {
		t.Error(err)
	}
	for what, err := range map[string]error{"other text": Verify(key, []byte("Sums"), sig), "short": Verify(key, text, sig[:63]), "none": Verify(key, text, nil)} {
		if !errors.Is(err, ErrSignature) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := Verify("", text, sig); err == nil || errors.Is(err, ErrSignature) {
		t.Errorf("without a key: %v", err)
	}
}

func FuzzParseChannel(f *testing.F) {
	f.Add([]byte(`{"channel":"stable","newest":"v0.2.0","releases":[{"version":"v0.2.0","date":"2026-11-30"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := ParseChannel(Stable, text)
		if err == nil && (c.Newest == "" || len(c.Releases) > MaxReleases) {
			t.Errorf("%+v", c)
		}
	})
}
