package mtls

import (
	"fmt"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
)

func TestConfigsAreCachedAndFree(t *testing.T) {
	m := ready(t, startManager(t, newAuthority(t, time.Hour), web, store))
	first, err := m.ClientConfig(web, store, ALPNHTTP1)
	if err != nil {
		t.Fatal(err)
	}
	again, _ := m.ClientConfig(web, store, ALPNHTTP1)
	anotherALPN, _ := m.ClientConfig(web, store, ALPNHTTP2)
	anotherPeer, _ := m.ClientConfig(web, other, ALPNHTTP1)
	anotherSource, _ := m.ClientConfig(store, store, ALPNHTTP1)
	if again != first {
		t.Errorf("the same arguments: got another config %p, want %p", again, first)
	}
	if anotherALPN == first || anotherPeer == first || anotherSource == first {
		t.Error("different arguments: got a shared config, want different ones")
	}
	if got := testing.AllocsPerRun(1000, func() { _, _ = m.ClientConfig(web, store, ALPNHTTP1) }); got != 0 {
		t.Errorf("ClientConfig: %v allocations, want 0", got)
	}
	if got := testing.AllocsPerRun(1000, func() { _, _ = m.ServerConfig(store) }); got != 0 {
		t.Errorf("ServerConfig: %v allocations, want 0", got)
	}
}

func TestConfigRefuses(t *testing.T) {
	m := ready(t, startManager(t, newAuthority(t, time.Hour), web))
	for name, tc := range map[string]struct {
		source, expect mesh.Identity
		alpn           string
		want           mesh.Reason
	}{
		"source not on this node": {store, web, ALPNTCP, mesh.ReasonNoCertificate},
		"no source":               {mesh.Identity{}, web, ALPNTCP, mesh.ReasonNoCertificate},
		"no peer named":           {web, mesh.Identity{}, ALPNTCP, mesh.ReasonTLSFailed},
		"foreign ALPN":            {web, store, "h2", mesh.ReasonTLSFailed},
		"no ALPN":                 {web, store, "", mesh.ReasonTLSFailed},
	} {
		if c, err := m.ClientConfig(tc.source, tc.expect, tc.alpn); c != nil || HandshakeReason(err) != tc.want {
			t.Errorf("%s: got %v, %v; want nil and an error with the reason %q", name, c, err, tc.want)
		}
	}
}

func TestClientCacheIsBounded(t *testing.T) {
	m := ready(t, startManager(t, newAuthority(t, time.Hour), web))
	for i := range maxClients + 10 {
		peer := mesh.Identity{TrustDomain: testDomain, Namespace: "n", ServiceAccount: fmt.Sprint(i)}
		if _, err := m.ClientConfig(web, peer, ALPNTCP); err != nil {
			t.Fatal(err)
		}
	}
	if got := len(m.entry(web).clients); got > maxClients {
		t.Errorf("%d cached configs, want at most %d", got, maxClients)
	}
}

func BenchmarkClientConfig(b *testing.B) {
	m := ready(b, startManager(b, newAuthority(b, time.Hour), web))
	b.ReportAllocs()
	for b.Loop() {
		_, _ = m.ClientConfig(web, store, ALPNHTTP2)
	}
}

func BenchmarkServerConfig(b *testing.B) {
	m := ready(b, startManager(b, newAuthority(b, time.Hour), web))
	b.ReportAllocs()
	for b.Loop() {
		_, _ = m.ServerConfig(web)
	}
}

// BenchmarkHandshake measures both sides of a handshake over a pipe.
func BenchmarkHandshake(b *testing.B) {
	m := ready(b, startManager(b, newAuthority(b, time.Hour), web, store))
	for b.Loop() {
		if o := between(m, m, web, store); o.err() != nil {
			b.Fatal(o.err())
		}
	}
}
