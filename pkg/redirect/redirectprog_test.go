package redirect

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/underlane/underlane/bpf"
	"github.com/underlane/underlane/pkg/redirect/netns/nstest"
)

// Results of a program at tcx.
const (
	tcxNext     = 0xffffffff
	tcxRedirect = 7
)

// packet is a TCP packet, or what resembles one.
type packet struct {
	from, to netip.AddrPort
	protocol byte // of the transport
	fragment bool // IPv4
	options  bool // IPv4
	cut      int  // bytes at the end that are missing
}

func (p packet) bytes() []byte {
	b := []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2}
	length := 20 + 8
	if p.from.Addr().Is4() {
		b = binary.BigEndian.AppendUint16(b, 0x0800)
		head := make([]byte, 20, 24)
		head[0], head[8], head[9] = 0x45, 64, p.protocol
		if p.options {
			head[0] = 0x46
			head = head[:24]
		}
		if p.fragment {
			head[7] = 1
		}
		binary.BigEndian.PutUint16(head[2:], uint16(len(head)+length))
		copy(head[12:], p.from.Addr().AsSlice())
		copy(head[16:], p.to.Addr().AsSlice())
		b = append(b, head...)
	} else {
		b = binary.BigEndian.AppendUint16(b, 0x86dd)
		head := make([]byte, 40)
		head[0], head[6], head[7] = 0x60, p.protocol, 64
		binary.BigEndian.PutUint16(head[4:], uint16(length))
		copy(head[8:], p.from.Addr().AsSlice())
		copy(head[24:], p.to.Addr().AsSlice())
		b = append(b, head...)
	}
	tcp := make([]byte, length)
	binary.BigEndian.PutUint16(tcp, p.from.Port())
	binary.BigEndian.PutUint16(tcp[2:], p.to.Port())
	tcp[12] = 0x50
	b = append(b, tcp...)
	return b[:len(b)-p.cut]
}

// progRig is the program with maps of its own. The packets of a test run come from the
// interface 1.
type progRig struct {
	prog *ebpf.Program
	maps map[string]*ebpf.Map
}

func newProgRig(t *testing.T) *progRig {
	nstest.RequireRoot(t)
	r := &trial{maps: map[string]*ebpf.Map{}}
	t.Cleanup(r.close)
	if err := r.load(); err != nil {
		t.Fatal(err)
	}
	return &progRig{r.prog, r.maps}
}

func (r *progRig) run(t *testing.T, p packet) uint32 {
	t.Helper()
	got, err := r.prog.Run(&ebpf.RunOptions{Data: p.bytes()})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// file files a connection whose client has the interface 1 and whose server has 2.
func (r *progRig) file(t *testing.T, client, server netip.AddrPort, veths [2]int) {
	t.Helper()
	for i, cookie := range []uint64{11, 22} {
		if err := r.maps[bpf.UnderlaneMapVeths].Put(cookie, &bpf.UnderlaneVeth{Ifindex: uint32(veths[i]), SinceNs: monotonicNow()}); err != nil {
			t.Fatal(err)
		}
	}
	ends, value := redirectEntry(client, server, [2]uint64{11, 22})
	if err := r.maps[bpf.UnderlaneMapRedirects].Put(&ends, &value); err != nil {
		t.Fatal(err)
	}
}

// TestRedirectProgram: the program redirects the packets of a connection that was filed, in both
// directions, where they come from the right veth, and lets all else pass.
func TestRedirectProgram(t *testing.T) {
	for name, ends := range map[string][2]netip.AddrPort{
		"IPv4":           {netip.MustParseAddrPort("10.0.0.1:40000"), netip.MustParseAddrPort("10.0.0.2:80")},
		"IPv6":           {netip.MustParseAddrPort("[fd00::1]:40000"), netip.MustParseAddrPort("[fd00:1::2]:80")},
		"the other way":  {netip.MustParseAddrPort("10.0.0.2:80"), netip.MustParseAddrPort("10.0.0.1:40000")},
		"the same ports": {netip.MustParseAddrPort("10.0.1.1:80"), netip.MustParseAddrPort("10.0.0.1:80")},
		"one address":    {netip.MustParseAddrPort("10.0.0.1:81"), netip.MustParseAddrPort("10.0.0.1:80")},
	} {
		t.Run(name, func(t *testing.T) {
			r := newProgRig(t)
			from, to := ends[0], ends[1]
			is := packet{from: from, to: to, protocol: 6}
			check := func(what string, p packet, want uint32) {
				t.Helper()
				if got := r.run(t, p); got != want {
					t.Errorf("%s: got %#x, want %#x", what, got, want)
				}
			}
			check("nothing is filed", is, tcxNext)
			r.file(t, from, to, [2]int{1, 2})
			check("filed", is, tcxRedirect)
			check("the answer, from the client's veth: it is forged", packet{from: to, to: from, protocol: 6}, tcxNext)
			for what, p := range map[string]packet{
				"another port":    {from: netip.AddrPortFrom(from.Addr(), 1), to: to, protocol: 6},
				"another address": {from: netip.AddrPortFrom(from.Addr().Next().Next(), from.Port()), to: to, protocol: 6},
				"UDP":             {from: from, to: to, protocol: 17},
				"no whole header": {from: from, to: to, protocol: 6, cut: 9},
				"no ports":        {from: from, to: to, protocol: 6, cut: 28},
			} {
				check(what, p, tcxNext)
			}
			if from.Addr().Is4() {
				check("a fragment", packet{from: from, to: to, protocol: 6, fragment: true}, tcxNext)
				check("IP options", packet{from: from, to: to, protocol: 6, options: true}, tcxNext)
			} else {
				check("an extension header", packet{from: from, to: to, protocol: 0}, tcxNext)
			}
			check("still", is, tcxRedirect)
			r.file(t, from, to, [2]int{2, 1})
			check("from another pod's veth: it is forged", is, tcxNext)
			check("the answer", packet{from: to, to: from, protocol: 6}, tcxRedirect)
		})
	}
}

// TestRedirectProgramLeaves: a connection leaves for good when the other pod's veth is not in
// the map any more, or is another one, or the agent does not live.
func TestRedirectProgramLeaves(t *testing.T) {
	from, to := netip.MustParseAddrPort("10.0.0.1:40000"), netip.MustParseAddrPort("10.0.0.2:80")
	is := packet{from: from, to: to, protocol: 6}
	for name, leave := range map[string]func(r *progRig) error{
		"the other veth is gone": func(r *progRig) error { return r.maps[bpf.UnderlaneMapVeths].Delete(uint64(22)) },
		"its own veth is gone":   func(r *progRig) error { return r.maps[bpf.UnderlaneMapVeths].Delete(uint64(11)) },
		"another veth": func(r *progRig) error {
			return r.maps[bpf.UnderlaneMapVeths].Put(uint64(22), &bpf.UnderlaneVeth{Ifindex: 3, SinceNs: monotonicNow()})
		},
		"it was away": func(r *progRig) error {
			return r.maps[bpf.UnderlaneMapVeths].Put(uint64(22), &bpf.UnderlaneVeth{Ifindex: 2, SinceNs: monotonicNow()})
		},
		"its own was away": func(r *progRig) error {
			return r.maps[bpf.UnderlaneMapVeths].Put(uint64(11), &bpf.UnderlaneVeth{Ifindex: 1, SinceNs: monotonicNow()})
		},
		"the agent is silent": func(r *progRig) error {
			st := bpf.UnderlaneAgentState{HeartbeatNs: monotonicNow() - uint64(time.Second), HeartbeatTimeoutNs: uint64(time.Second / 2)}
			return r.maps[bpf.UnderlaneMapAgent].Put(uint32(0), &st)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newProgRig(t)
			r.file(t, from, to, [2]int{1, 2})
			if got := r.run(t, is); got != tcxRedirect {
				t.Fatalf("got %#x, want %#x", got, tcxRedirect)
			}
			if err := leave(r); err != nil {
				t.Fatal(err)
			}
			if got := r.run(t, is); got != tcxNext {
				t.Errorf("got %#x, want %#x", got, tcxNext)
			}
			live := bpf.UnderlaneAgentState{HeartbeatNs: monotonicNow(), HeartbeatTimeoutNs: uint64(time.Hour)}
			if err := r.maps[bpf.UnderlaneMapAgent].Put(uint32(0), &live); err != nil {
				t.Fatal(err)
			}
			for cookie, index := range map[uint64]uint32{11: 1, 22: 2} {
				if err := r.maps[bpf.UnderlaneMapVeths].Put(cookie, &bpf.UnderlaneVeth{Ifindex: index}); err != nil {
					t.Fatal(err)
				}
			}
			if got := r.run(t, is); got != tcxNext {
				t.Errorf("as before: got %#x, want that it has left for good", got)
			}
		})
	}
}

// TestTryRedirects: the trial succeeds here, again and again, and leaves nothing.
func TestTryRedirects(t *testing.T) {
	requireRedirects(t)
	if err := TryRedirects(); err != nil {
		t.Error(err)
	}
}
