package redirect

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/bpf"
	"github.com/underlane/underlane/pkg/mesh"
)

// BPF_PROG_TEST_RUN of the kernel knows sk_lookup, tcx (redirectprog_test.go) and cgroup_skb
// (answers_test.go, observe_test.go). It does not know the programs at connect(),
// getpeername(), getsockname() and sendmsg(), nor sockops: these are tested with sockets only.

// Results of an sk_lookup program.
const (
	skDrop = 0
	skPass = 1
)

// lookupContext is struct bpf_sk_lookup of <linux/bpf.h>.
type lookupContext struct {
	Cookie           uint64 // of the socket that was assigned
	Family, Protocol uint32
	RemoteIP4        [4]byte
	RemoteIP6        [16]byte
	RemotePort       [4]byte // two bytes in network order
	LocalIP4         [4]byte
	LocalIP6         [16]byte
	LocalPort        uint32
	Interface        uint32 // always 0: a test run takes no other
	Pad              uint32
}

// syn is a SYN that comes to a pod.
type syn struct {
	from, to netip.AddrPort
	protocol uint32 // TCP if zero
}

func (s syn) context() *lookupContext {
	c := &lookupContext{Family: unix.AF_INET, Protocol: unix.IPPROTO_TCP, LocalPort: uint32(s.to.Port())}
	binary.BigEndian.PutUint16(c.RemotePort[:], s.from.Port())
	if s.to.Addr().Is4() {
		c.RemoteIP4, c.LocalIP4 = s.from.Addr().As4(), s.to.Addr().As4()
	} else {
		c.Family, c.RemoteIP6, c.LocalIP6 = unix.AF_INET6, s.from.Addr().As16(), s.to.Addr().As16()
	}
	if s.protocol != 0 {
		c.Protocol = s.protocol
	}
	return c
}

// lookupRig is the program of an enrolled pod, which has not to be attached for a test run.
type lookupRig struct {
	*rig
	prog *ebpf.Program
}

func newLookupRig(t *testing.T, s mesh.Settings) *lookupRig {
	r := &lookupRig{rig: newRig(t, s)}
	var err error
	if r.prog, err = r.d.lookups.load(r.enrolled.Cookie()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.prog.Close() })
	return r
}

// run returns the verdict, and which listener of the pod the SYN was assigned to.
func (r *lookupRig) run(t *testing.T, s syn) (verdict uint32, to bpf.UnderlaneListenerKind) {
	t.Helper()
	var out lookupContext
	verdict, err := r.prog.Run(&ebpf.RunOptions{Context: s.context(), ContextOut: &out, Repeat: 1})
	if err != nil {
		t.Fatal(err)
	}
	if out.Cookie == 0 {
		return verdict, 0
	}
	for _, l := range r.enrolled.kinds {
		var cookie uint64
		err := l.listener.Control(func(fd int) (err error) {
			cookie, err = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if cookie == out.Cookie {
			return verdict, l.kind
		}
	}
	t.Fatalf("assigned to the socket %d, which is no listener of the pod", out.Cookie)
	return 0, 0
}

func (r *lookupRig) check(t *testing.T, what string, s syn, verdict uint32, to bpf.UnderlaneListenerKind) {
	t.Helper()
	if v, l := r.run(t, s); v != verdict || l != to {
		t.Errorf("%s: verdict %d, listener %d; want %d, %d", what, v, l, verdict, to)
	}
}

// synCase is a SYN of a family, and the listener that gets it.
type synCase struct {
	syn
	inbound bpf.UnderlaneListenerKind
}

func synCases() map[string]synCase {
	return map[string]synCase{
		"IPv4": {
			syn{from: netip.AddrPortFrom(peer4, 40000), to: netip.AddrPortFrom(pod4, 8080)},
			bpf.UnderlaneListenerKindLISTENER_INBOUND4,
		},
		"IPv6": {
			syn{from: netip.AddrPortFrom(peer6, 40000), to: netip.AddrPortFrom(pod6, 8080)},
			bpf.UnderlaneListenerKindLISTENER_INBOUND6,
		},
		"IPv6 link-local": {
			syn{from: netip.MustParseAddrPort("[fe80::1]:40000"), to: netip.MustParseAddrPort("[fe80::2]:8080")},
			bpf.UnderlaneListenerKindLISTENER_INBOUND6,
		},
	}
}

// TestLookupProgram: a SYN goes to the agent's listener of its family, but where the pod itself,
// the node, or the kernel path has filed it, or its port is skipped.
func TestLookupProgram(t *testing.T) {
	for name, c := range synCases() {
		t.Run(name, func(t *testing.T) {
			r := newLookupRig(t, mesh.Settings{Policy: mesh.PolicyStrict, SkipInboundPorts: []mesh.PortRange{{First: 9000, Last: 9001}}})
			cookie := r.enrolled.Cookie()
			r.check(t, "from elsewhere", c.syn, skPass, c.inbound)
			r.check(t, "UDP", syn{from: c.from, to: c.to, protocol: unix.IPPROTO_UDP}, skPass, 0)
			r.check(t, "of the pod to itself", syn{from: netip.AddrPortFrom(c.to.Addr(), 40000), to: c.to}, skPass, 0)
			for port, want := range map[uint16]bpf.UnderlaneListenerKind{8999: c.inbound, 9000: 0, 9001: 0, 9002: c.inbound} {
				r.check(t, "a port beside those that are skipped", syn{from: c.from, to: netip.AddrPortFrom(c.to.Addr(), port)}, skPass, want)
			}
			flow := bpf.UnderlaneFlowKey{
				Client: mapAddress(c.from.Addr()), Server: mapAddress(c.to.Addr()), ClientPort: c.from.Port(), ServerPort: c.to.Port(),
			}
			now := monotonicNow()
			for what, filed := range map[string]struct {
				in         *ebpf.Map
				key        any
				young, old any
			}{
				"of the node":            {r.d.objs.HostFlows, &flow, &bpf.UnderlaneHostFlow{OpenedNs: now}, &bpf.UnderlaneHostFlow{OpenedNs: now - flowLifetime}},
				"of the pod":             {r.d.objs.InnerFlows, &bpf.UnderlaneInnerFlowKey{NetnsCookie: cookie, Flow: flow}, now, now - flowLifetime},
				"of the kernel path":     {r.d.objs.LocalFlows, &bpf.UnderlaneLocalFlowKey{NetnsCookie: cookie, Flow: flow}, now, now - flowLifetime},
				"of another pod's path":  {r.d.objs.LocalFlows, &bpf.UnderlaneLocalFlowKey{NetnsCookie: cookie + 1, Flow: flow}, nil, now},
				"within another pod":     {r.d.objs.InnerFlows, &bpf.UnderlaneInnerFlowKey{NetnsCookie: cookie + 1, Flow: flow}, nil, now},
				"of the node, elsewhere": {r.d.objs.HostFlows, &bpf.UnderlaneFlowKey{Client: flow.Server, Server: flow.Client, ClientPort: flow.ServerPort, ServerPort: flow.ClientPort}, nil, &bpf.UnderlaneHostFlow{OpenedNs: now}},
			} {
				for value, want := range map[any]bpf.UnderlaneListenerKind{filed.young: 0, filed.old: c.inbound} {
					if value == nil {
						continue
					}
					if err := filed.in.Put(filed.key, value); err != nil {
						t.Fatal(err)
					}
					r.check(t, what, c.syn, skPass, want)
				}
				if err := filed.in.Delete(filed.key); err != nil {
					t.Fatal(err)
				}
			}
			r.check(t, "with nothing filed any more", c.syn, skPass, c.inbound)
		})
	}
}

const flowLifetime = 11_000_000_000 // ns: older than FLOW_LIFETIME_NS of bpf/host.c

// TestLookupProgramLoopback: a SYN to a loopback address goes to the agent's listener if the hook
// has rewritten it, and to the pod's own otherwise.
func TestLookupProgramLoopback(t *testing.T) {
	r := newLookupRig(t, mesh.Settings{})
	for _, c := range []struct {
		syn
		via  [4]byte
		port uint16
		to   bpf.UnderlaneListenerKind
	}{
		{syn{from: netip.MustParseAddrPort("127.0.0.1:40000"), to: netip.MustParseAddrPort("127.128.1.2:15001")}, [4]byte{127, 128, 1, 2}, 15001, bpf.UnderlaneListenerKindLISTENER_OUTBOUND4},
		{syn{from: netip.MustParseAddrPort("[::1]:40000"), to: netip.MustParseAddrPort("[::1]:2000")}, [4]byte{}, 2000, bpf.UnderlaneListenerKindLISTENER_OUTBOUND6},
	} {
		r.check(t, "the pod's own", c.syn, skPass, 0)
		key := bpf.UnderlaneClientKey{NetnsCookie: r.enrolled.Cookie(), Addr: mapAddress(c.from.Addr()), Port: c.from.Port(), ViaPort: c.port, Via: c.via}
		if err := r.d.objs.OriginalDsts.Put(&key, &bpf.UnderlaneOriginalDst{}); err != nil {
			t.Fatal(err)
		}
		r.check(t, "captured", c.syn, skPass, c.to)
		r.check(t, "another client", syn{from: netip.AddrPortFrom(c.from.Addr(), 1), to: c.syn.to}, skPass, 0)
	}
}

// TestLookupProgramWithoutAgent: without an agent, or with one that is silent, a strict pod
// refuses the SYN, and another one has it.
func TestLookupProgramWithoutAgent(t *testing.T) {
	for policy, verdict := range map[mesh.PolicyMode]uint32{mesh.PolicyStrict: skDrop, mesh.PolicyAllow: skPass} {
		for name, c := range synCases() {
			t.Run(policy.String()+" "+name, func(t *testing.T) {
				r := newLookupRig(t, mesh.Settings{Policy: policy})
				st := r.d.agentState()
				st.HeartbeatNs -= 2 * st.HeartbeatTimeoutNs
				r.d.heart.Stop()
				if err := r.d.objs.Agent.Put(uint32(0), &st); err != nil {
					t.Fatal(err)
				}
				r.check(t, "the agent is silent", c.syn, verdict, 0)
				if err := r.d.beat(); err != nil {
					t.Fatal(err)
				}
				r.check(t, "it lives", c.syn, skPass, c.inbound)
				r.enrolled.Unpublish()
				r.check(t, "it has no listener", c.syn, verdict, 0)
				if err := r.d.objs.Pods.Delete(r.enrolled.Cookie()); err != nil {
					t.Fatal(err)
				}
				r.check(t, "the pod is not enrolled", c.syn, skPass, 0)
				for _, reason := range []string{"stale-agent", "no-listener"} {
					name := map[uint32]string{skDrop: "refused-", skPass: "passed-"}[verdict] + reason
					if n := counters(t, r.rig)[name]; n != 1 {
						t.Errorf("%s is %d, want 1", name, n)
					}
				}
			})
		}
	}
}
