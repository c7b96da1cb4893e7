package redirect

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/pkg/rawio"
)

// counting is a program of somebody else, which counts the bytes that it sees, and lets them
// pass to the next program.
type counting struct {
	prog *ebpf.Program
	seen *ebpf.Map
}

func newCounting(t *testing.T) *counting {
	t.Helper()
	seen, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { seen.Close() })
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "other", Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{
		asm.LoadMem(asm.R6, asm.R1, 0, asm.Word), // len of struct __sk_buff
		asm.StoreImm(asm.RFP, -4, 0, asm.Word),
		asm.LoadMapPtr(asm.R1, seen.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "end"),
		asm.StoreXAdd(asm.R0, asm.R6, asm.DWord),
		asm.Mov.Imm(asm.R0, -1).WithSymbol("end"),
		asm.Return(),
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { prog.Close() })
	return &counting{prog, seen}
}

// sees tells whether the program has seen much since the last time: what talk sends, and not
// only what is sent to find a neighbour.
func (c *counting) sees(t *testing.T) bool {
	t.Helper()
	var n uint64
	if err := errors.Join(c.seen.Lookup(uint32(0), &n), c.seen.Put(uint32(0), uint64(0))); err != nil {
		t.Fatal(err)
	}
	return n > 64<<10
}

// attach attaches the program at the host's end of a pod's veth.
func (c *counting) attach(t *testing.T, r *hostRig, pod int, anchor link.Anchor) {
	t.Helper()
	var l link.Link
	err := r.host.Do(func() (err error) {
		end, err := net.InterfaceByName(vethName(pod))
		if err != nil {
			return err
		}
		l, err = link.AttachTCX(link.TCXOptions{Interface: end.Index, Program: c.prog, Attach: ebpf.AttachTCXIngress, Anchor: anchor})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
}

// TestRedirectsAfterOthers: somebody attaches a program before ours, or after it, while a
// connection is redirected. One that is before ours sees all packets at once; one that is after it
// does so as soon as the agent has looked. The connection goes on, and new ones take the host's way.
func TestRedirectsAfterOthers(t *testing.T) {
	for name, anchor := range map[string]link.Anchor{"first": link.Head(), "last": link.Tail()} {
		t.Run(name, func(t *testing.T) {
			r := newHostRig(t, false, [2]int{1500, 1500})
			r.want(t, true)
			client, server := r.open(t, 0, 8080)
			talk(t, client, server)
			other := newCounting(t)
			other.attach(t, r, 0, anchor)
			talk(t, client, server)
			if sees := other.sees(t); sees != (name == "first") {
				t.Errorf("before the agent has looked it sees the packets: %v", sees)
			}
			r.redirects.settle(t.Context(), true)
			r.await(t, 1, "the program other is attached")
			redirected := r.count(t, "kernel-path-redirected")
			talk(t, client, server)
			talk(t, server, client)
			if n := r.count(t, "kernel-path-redirect-left"); n != 1 {
				t.Errorf("%d connections have left, want 1", n)
			}
			if !other.sees(t) {
				t.Error("it does not see the packets of the open connection")
			}
			again, there := r.open(t, 0, 8081)
			talk(t, again, there)
			if n := r.count(t, "kernel-path-redirected"); n != redirected {
				t.Errorf("%d new connections are redirected, want none", n-redirected)
			}
			if !other.sees(t) {
				t.Error("it does not see the packets of a new connection")
			}
		})
	}
}

// TestRedirectsPodGone: when the network of a pod goes in the middle of a connection, its peer
// gets the error that it gets without redirects, once the pod is withdrawn.
func TestRedirectsPodGone(t *testing.T) {
	outcome := func(t *testing.T, redirected bool, which int) error {
		r := newHostRig(t, false, [2]int{1500, 1500})
		r.want(t, redirected)
		client, server := r.open(t, 0, 8080)
		talk(t, client, server)
		if n := r.count(t, "kernel-path-redirected"); (n == 1) != redirected {
			t.Fatalf("%d connections are redirected, want that: %v", n, redirected)
		}
		peer := [2]*rawio.Conn{client, server}[1-which]
		limitUnanswered(t, peer, 2*time.Second)
		inNS(t, r.host, func(h *netlink.Handle) error {
			end, err := h.LinkByName(vethName(which))
			if err != nil {
				return err
			}
			return h.LinkDel(end)
		})
		if _, err := peer.Write([]byte("is there anybody?")); err != nil {
			return err
		}
		r.d.Withdraw([2]string{"uid-0", "uid-1"}[which])
		_, err := io.ReadFull(peer, make([]byte, 1))
		return err
	}
	for which, name := range []string{"the client's", "the server's"} {
		var got, want error
		t.Run(name+" without redirects", func(t *testing.T) { want = outcome(t, false, which) })
		t.Run(name, func(t *testing.T) {
			got = outcome(t, true, which)
			if want == nil || !errors.Is(got, errno(want)) {
				t.Errorf("the peer got %v, and without redirects %v", got, want)
			}
			t.Log(got)
		})
	}
}

func errno(err error) error {
	var no unix.Errno
	if errors.As(err, &no) {
		return no
	}
	return err
}

// limitUnanswered has a connection fail if what it has sent is not acknowledged for so long.
func limitUnanswered(t *testing.T, c *rawio.Conn, limit time.Duration) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		set = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(limit.Milliseconds()))
	})
	if err := errors.Join(err, set); err != nil {
		t.Fatal(err)
	}
}
