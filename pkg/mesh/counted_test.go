package mesh_test

import (
	"net/netip"
	"testing"

	"github.com/underlane/underlane/pkg/mesh"
)

func TestCountedAs(t *testing.T) {
	for addr, want := range map[string]string{
		"10.0.0.1":          "10.0.0.1",
		"::ffff:10.0.0.1":   "10.0.0.1",
		"2001:db8:0:1::1:2": "2001:db8:0:1::",
		"fe80::1%eth0":      "fe80::",
		"::1":               "::1",
	} {
		if got := mesh.CountedAs(netip.MustParseAddr(addr)); got.String() != want {
			t.Errorf("%s is counted as %s, want %s", addr, got, want)
		}
	}
	if got := mesh.CountedAs(netip.Addr{}); got.IsValid() {
		t.Errorf("the zero address is counted as %s, want the zero address", got)
	}
}
