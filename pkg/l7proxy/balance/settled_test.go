package balance

import (
	"net/netip"
	"testing"

	"github.com/underlane/underlane/pkg/mesh"
)

// TestSettledIsWhatIsPicked: whenever the choice is settled, Pick and PickFor choose the same
// endpoint, whatever the endpoints and whichever of them are ejected.
func TestSettledIsWhatIsPicked(t *testing.T) {
	all := endpoints(6)
	for name, tc := range map[string]struct {
		near, far []mesh.Endpoint
		affine    bool
		ejected   []int // of all
		least     int   // how many of 300 clients are settled, at least
		most      int
	}{
		"affinity":                            {all, nil, true, nil, 300, 300},
		"affinity, near and far":              {all[:2], all[2:], true, nil, 300, 300},
		"affinity, only far":                  {nil, all, true, nil, 300, 300},
		"affinity, one is ejected":            {all, nil, true, []int{3}, 200, 299},
		"affinity, all near ones are ejected": {all[:2], all[2:], true, []int{0, 1}, 0, 0},
		"one":                                 {all[:1], nil, false, nil, 300, 300},
		"one near":                            {all[:1], all[1:], false, nil, 300, 300},
		"one near, ejected":                   {all[:1], all[1:], false, []int{0}, 0, 0},
		"one far":                             {nil, all[:1], false, nil, 300, 300},
		"two":                                 {all[:2], nil, false, nil, 0, 0},
		"none":                                {nil, nil, true, nil, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			b := New()
			b.Update(at, tc.near, tc.far, true)
			for _, i := range tc.ejected {
				if got := b.Eject(at, all[i].Addr); got != EjectedUnreachable {
					t.Fatalf("eject %s: got %v", all[i].Addr, got)
				}
			}
			n := 0
			for i := range 300 {
				e, ok := b.Settled(client(i), tc.affine)
				if !ok {
					continue
				}
				n++
				for range 5 {
					var picked netip.AddrPort
					if tc.affine {
						picked = pickFor(t, b, client(i))
					} else {
						ticket := pick(t, b)
						b.Done(ticket, at, none)
						picked = ticket.Endpoint.Addr
					}
					if picked != e.Addr {
						t.Fatalf("client %d: settled is %s, and %s was picked", i, e.Addr, picked)
					}
				}
			}
			if n < tc.least || n > tc.most {
				t.Errorf("%d of 300 clients are settled, want %d to %d", n, tc.least, tc.most)
			}
		})
	}
}
