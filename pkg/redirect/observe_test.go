package redirect

import (
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/redirect/netns"
)

// eye is an Observer, with the openings that it has seen.
type eye struct {
	*Observer
	t        *testing.T
	openings map[uint64]Opening // by flow
}

func newEye(t *testing.T, r *rig) *eye {
	t.Helper()
	o := NewObserver(r.d)
	t.Cleanup(o.Close)
	r.d.Withdraw(r.workload.UID) // the pod is not in the mesh
	return &eye{o, t, make(map[uint64]Opening)}
}

// segments returns what was seen since the last call.
func (o *eye) segments() (list []Observation) {
	o.t.Helper()
	for {
		n, err := o.Read(func(s *Observation) {
			if s.Opening != nil {
				o.openings[s.Flow] = *s.Opening
				return
			}
			c := *s
			c.Data, c.Tail = slices.Clone(s.Data), slices.Clone(s.Tail)
			list = append(list, c)
		})
		if err != nil {
			o.t.Fatal(err)
		}
		if n == 0 {
			return list
		}
	}
}

// TestObserver: what a pod that is observed sends and receives is seen, of both families and
// as client and as server, with its addresses; of a pod that is not, nothing. Nothing is
// redirected.
func TestObserver(t *testing.T) {
	r := newRig(t, mesh.Settings{})
	o := newEye(t, r)
	if err := o.Observe(r.pod.Cookie(), All); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		from, to *netns.NS
		addr     netip.Addr
		server   bool
	}{
		"client, IPv4": {r.pod, r.peer, peer4, false}, "client, IPv6": {r.pod, r.peer, peer6, false},
		"server, IPv4": {r.peer, r.pod, pod4, true}, "server, IPv6": {r.peer, r.pod, pod6, true},
	} {
		t.Run(name, func(t *testing.T) {
			l := listen(t, c.to, c.addr, 8080)
			conn := mustDial(t, c.from, netip.AddrPortFrom(c.addr, 8080))
			accepted, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer accepted.Close()
			request, long := "GET / HTTP/1.1\r\n\r\n", strings.Repeat("body", 500)
			for _, text := range []string{request, long} {
				if _, err := conn.Write([]byte(text)); err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadFull(accepted, make([]byte, len(text))); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := accepted.Write([]byte("HTTP/1.1 200 OK\r\n\r\n")); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(conn, make([]byte, 19)); err != nil {
				t.Fatal(err)
			}
			var sent, got string
			for _, s := range o.segments() {
				if s.Length == 0 {
					continue // the end of the connection before
				}
				local, remote := conn.Local(), conn.Remote()
				if c.server {
					local, remote = remote, local
				}
				flow := o.openings[s.Flow]
				if flow.Local != local || flow.Remote != remote || flow.Name != remote || flow.Server != c.server || flow.Joined || flow.Pod != r.pod.Cookie() {
					t.Errorf("got %+v of %+v, want one between %s and %s", s, flow, local, remote)
				}
				first := flow.First[0]
				if s.Sent {
					first = flow.First[1]
				}
				if age := time.Duration(monotonicNow()) - s.Time; age < 0 || age > time.Minute {
					t.Errorf("seen %v ago", age)
				}
				line := fmt.Sprintf("%d+%d %.10s;", s.Seq-first, s.Length, s.Data)
				if s.Sent != c.server {
					sent += line
				} else {
					got += line
				}
				if s.Length == 2000 && (len(s.Data) != 64 || string(s.Tail) != "bodybody") {
					t.Errorf("of a body %d bytes and the end %q are copied, want 64 and its last 8", len(s.Data), s.Tail)
				}
			}
			if want := "0+18 GET / HTTP;18+2000 bodybodybo;"; sent != want {
				t.Errorf("requests: %q, want %q", sent, want)
			}
			if want := "0+19 HTTP/1.1 2;"; got != want {
				t.Errorf("responses: %q, want %q", got, want)
			}
		})
	}
	o.Leave(r.pod.Cookie())
	if o.objs != nil {
		t.Error("the programs are still loaded after the last pod has left")
	}
}

// TestObserverWishes: segments that are not wanted are not reported, but for the rest of the
// one in which the skipped bytes end, and nothing of a flow that is off.
func TestObserverWishes(t *testing.T) {
	r := newRig(t, mesh.Settings{})
	o := newEye(t, r)
	if err := o.Observe(r.pod.Cookie(), All); err != nil {
		t.Fatal(err)
	}
	l := listen(t, r.peer, peer4, 8080)
	conn := mustDial(t, r.pod, netip.AddrPortFrom(peer4, 8080))
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	send := func(text string) []Observation {
		t.Helper()
		if _, err := conn.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(accepted, make([]byte, len(text))); err != nil {
			t.Fatal(err)
		}
		return o.segments()
	}
	first := send("0123456789")
	if len(first) != 1 {
		t.Fatalf("got %d segments, want 1", len(first))
	}
	want := func(w Wish) {
		if err := o.Want(first[0].Flow, w); err != nil {
			t.Fatal(err)
		}
	}
	want(Wish{SkipTo: [2]uint32{1: o.openings[first[0].Flow].First[1] + 25}, Skip: [2]bool{1: true}})
	if got := send("abcdefghij"); len(got) != 0 {
		t.Errorf("got %+v within what is skipped", got)
	}
	if got := send("klmnopqrst"); len(got) != 1 || got[0].Skipped != 5 || string(got[0].Data) != "pqrst" || got[0].Length != 10 {
		t.Errorf("got %+v, want the rest of the segment", got)
	}
	want(Wish{Off: true})
	if got := send("uvwxyz"); len(got) != 0 {
		t.Errorf("got %+v of a flow that is off", got)
	}
	counts := map[string]uint64{}
	if err := o.Counters(counts); err != nil || counts["observe-record"] != 2 || counts["observe-skipped"] != 1 {
		t.Errorf("counted %v, %v", counts, err)
	}
}

// TestObserverPasses runs the programs on packets of sockets that are not observed, which
// they have to let pass, and says what that costs.
func TestObserverPasses(t *testing.T) {
	r := newRig(t, mesh.Settings{})
	o := newEye(t, r)
	if err := o.Observe(r.pod.Cookie(), All); err != nil {
		t.Fatal(err)
	}
	ip4 := make([]byte, 14+20+20+100)
	ip4[12], ip4[14], ip4[14+9], ip4[14+20+12] = 0x08, 0x45, 6, 0x50
	for name, p := range map[string]*ebpf.Program{"received": o.objs.ObserveReceived, "sent": o.objs.ObserveSent} {
		for size, packet := range map[string][]byte{"TCP": ip4, "cut": ip4[:14+20+4]} {
			const repeat = 100_000
			verdict, cost, err := p.Benchmark(packet, repeat, nil)
			if err != nil || verdict != 1 {
				t.Errorf("%s, %s: %d, %v; want 1", name, size, verdict, err)
			}
			t.Logf("%s, %s: %v", name, size, cost)
		}
	}
	if got := o.segments(); len(got) != 0 {
		t.Errorf("got %+v", got)
	}
}
