package redirect

import (
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/underlane/underlane/bpf"
	"github.com/underlane/underlane/pkg/mesh"
)

func TestRepair(t *testing.T) {
	r := newRig(t, mesh.Settings{})
	captured := func(when string) {
		t.Helper()
		mustDial(t, r.pod, netip.AddrPortFrom(peer4, 8080))
		if _, ok := original(r.enrolled, accept(t, r.enrolled.Outbound[0])); !ok {
			t.Errorf("%s: an outbound connection has no original destination", when)
		}
		mustDial(t, r.peer, netip.AddrPortFrom(pod4, 8080))
		accept(t, r.enrolled.Inbound[0])
	}
	if repaired, err := r.d.Repair(); err != nil || len(repaired) > 0 {
		t.Fatalf("nothing was wrong: %v, %v", repaired, err)
	}
	for name, c := range map[string]struct {
		harm func() error
		want string
	}{
		"hook detached":      {func() error { return r.d.links["connect4"].Detach() }, "program connect4: was detached"},
		"hook unpinned":      {func() error { return os.Remove(r.d.linkPin("sock_ops")) }, "program sock_ops: was unpinned"},
		"sk_lookup detached": {func() error { return r.enrolled.lookup.Detach() }, "sk_lookup of test/a: was detached"},
		"sk_lookup unpinned": {func() error { return os.Remove(r.enrolled.linkPin) }, "sk_lookup of test/a: was unpinned"},
		"pod deleted":        {func() error { return r.d.objs.Pods.Delete(r.pod.Cookie()) }, "map pods of test/a"},
		"pod changed":        {func() error { return r.d.objs.Pods.Put(r.pod.Cookie(), &bpf.UnderlanePod{}) }, "map pods of test/a"},
		"listener deleted": {func() error {
			return r.d.objs.Listeners.Delete(&bpf.UnderlaneListenerKey{NetnsCookie: r.pod.Cookie(), Kind: uint32(bpf.UnderlaneListenerKindLISTENER_INBOUND4)})
		}, "map listeners of test/a"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := c.harm(); err != nil {
				t.Fatal(err)
			}
			repaired, err := r.d.Repair()
			if err != nil || len(repaired) != 1 || !strings.HasPrefix(repaired[0], c.want) {
				t.Fatalf("repaired %q, %v, want %q", repaired, err, c.want)
			}
			captured(name)
			if repaired, err := r.d.Repair(); err != nil || len(repaired) > 0 {
				t.Errorf("a second time: %q, %v", repaired, err)
			}
		})
	}
	pins, err := Pins(r.options.PinRoot)
	if err != nil || slices.ContainsFunc(pins, func(p string) bool { return strings.Contains(p, "again") }) {
		t.Errorf("pins %v, %v", pins, err)
	}
}

// A sandbox is made anew under the same UID, or the address comes later than
// the pod.
func TestAddressesChange(t *testing.T) {
	r := newRig(t, mesh.Settings{})
	has := func(a netip.Addr) bool {
		return r.enrolled.config.Addr4 == mapAddress(a) || r.enrolled.config.Addr6 == mapAddress(a)
	}
	w := *r.workload
	w.Addrs = nil // as scheduled: the addresses are not known to the controller yet
	if err := r.d.Update(&w); err != nil || !has(pod4) || !has(pod6) {
		t.Fatalf("without addresses: %v, %+v", err, r.enrolled.config)
	}
	w.Addrs = []netip.Addr{pod6, peer4}
	if err := r.d.Update(&w); err != nil {
		t.Fatal(err)
	}
	if has(pod4) || !has(pod6) || !has(peer4) {
		t.Errorf("with others: %+v", r.enrolled.config)
	}
	for _, c := range []struct {
		addrs []netip.Addr
		want  bool
	}{{[]netip.Addr{pod4, pod6}, true}, {[]netip.Addr{pod6}, true}, {[]netip.Addr{pod4, peer4}, false}} {
		if got, err := r.enrolled.Owns(c.addrs); err != nil || got != c.want {
			t.Errorf("owns %v: %v, %v", c.addrs, got, err)
		}
	}
}
