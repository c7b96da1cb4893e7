package redirect

import (
	"errors"
	"net/netip"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/rlimit"

	"github.com/underlane/underlane/bpf"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/redirect/netns/nstest"
)

// TestEachProgram: the kernel takes each program alone. A kernel without the cookies of
// network namespaces in sockops (before Linux 5.15), which the agent refuses, takes all but
// those that need them, and those that pass pointers to functions of their own (Linux 5.12).
func TestEachProgram(t *testing.T) {
	nstest.RequireRoot(t)
	if err := rlimit.RemoveMemlock(); err != nil {
		t.Fatal(err)
	}
	var needCookies, needPointers []string
	if errors.Is(features.HaveProgramHelper(ebpf.SockOps, asm.FnGetNetnsCookie), ebpf.ErrNotSupported) {
		needCookies = []string{bpf.UnderlaneProgSockOps, bpf.ObserveProgObserveOpened}
		needPointers = []string{bpf.ObserveProgObserveReceived, bpf.ObserveProgObserveSent}
	}
	for _, load := range []func() (*ebpf.CollectionSpec, error){bpf.LoadUnderlane, bpf.LoadObserve, bpf.LoadRedirect} {
		all, err := load()
		if err != nil {
			t.Fatal(err)
		}
		for name, prog := range all.Programs {
			t.Run(name, func(t *testing.T) {
				spec := all.Copy()
				spec.Programs = map[string]*ebpf.ProgramSpec{name: prog.Copy()}
				for _, m := range spec.Maps {
					m.Pinning = ebpf.PinNone
				}
				c, err := ebpf.NewCollection(spec)
				if slices.Contains(needCookies, name) {
					if err == nil {
						t.Error("it loads, and this kernel has no bpf_get_netns_cookie in sockops")
					}
					return
				}
				switch {
				case err == nil:
					c.Close()
				case !slices.Contains(needPointers, name):
					t.Fatalf("%+v", err)
				}
			})
		}
	}
}

// before517 is the types of this kernel, without the field that tells sk_lookup the
// interface of a SYN.
func before517(t *testing.T) *btf.Spec {
	t.Helper()
	types, err := btf.LoadKernelSpec()
	if err != nil {
		t.Fatal(err)
	}
	types = types.Copy()
	var ctx *btf.Struct
	if err := types.TypeByName("bpf_sk_lookup_kern", &ctx); err != nil {
		t.Fatal(err)
	}
	ctx.Members = slices.DeleteFunc(ctx.Members, func(m btf.Member) bool { return m.Name == "ingress_ifindex" })
	return types
}

// TestSkLookupBefore517: on a kernel that does not tell sk_lookup the interface of a SYN, a
// pod's connections to itself pass all the same, and all others are captured.
func TestSkLookupBefore517(t *testing.T) {
	r := newRig(t, mesh.Settings{Policy: mesh.PolicyStrict, SkipOutboundPorts: []mesh.PortRange{{First: 8080, Last: 8080}}})
	r.d.Withdraw(r.workload.UID)
	r.d.lookups.types = before517(t)
	r.enroll(t)
	fromOneOwnAddressToAnother(t, r)
	for i, addr := range []netip.Addr{pod4, pod6} {
		mustDial(t, r.peer, netip.AddrPortFrom(addr, 8080))
		accept(t, r.enrolled.Inbound[i])
	}
}
