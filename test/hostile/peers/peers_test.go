package peers

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/underlane/underlane/test/bench/pki"
)

// TestConfigHasEveryHop checks that each proxy is told of each port and server, and asks
// for a client certificate where it should.
func TestConfigHasEveryHop(t *testing.T) {
	files := pki.Files{Anchors: "/p/anchors", Cert: "/p/cert", Key: "/p/key", Both: "/p/both"}
	for name, kind := range map[string]Kind{"plain": HTTP, "prior": HTTP2, "mutual": MutualTLS, "opaque": OpaqueTLS} {
		s := Setup{Dir: "/d", PKI: files, Hops: []Hop{{
			Name: name, Kind: kind,
			Listen: netip.MustParseAddrPort("10.0.0.1:4711"), Server: netip.MustParseAddrPort("10.0.0.2:4712"),
		}}}
		for _, p := range All {
			text, args := p.config(s)
			all := strings.Join(args, " ")
			for _, t := range text {
				all += t
			}
			for _, part := range []string{"10.0.0.1", "4711", "10.0.0.2", "4712"} {
				if !strings.Contains(all, part) {
					t.Errorf("%s, %s: got no %q, want it in\n%s", p.Name, name, part, all)
				}
			}
			if got := strings.Contains(all, "/p/anchors"); got != kind.tls() {
				t.Errorf("%s, %s: got client certificates %v, want %v, in\n%s", p.Name, name, got, kind.tls(), all)
			}
		}
	}
}
