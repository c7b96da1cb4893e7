package connections

import (
	"context"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/figures"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/redirect/netns"
	"github.com/underlane/underlane/pkg/tap"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a connection of the proxy.
type fake struct {
	read, written, asked atomic.Uint64
	legs                 atomic.Pointer[tap.LiveLegs]
}

func (f *fake) Bytes() (read, written uint64) { return f.read.Load(), f.written.Load() }
func (f *fake) Legs() tap.LiveLegs {
	f.asked.Add(1)
	if legs := f.legs.Load(); legs != nil {
		return *legs
	}
	return tap.LiveLegs{}
}

var (
	web = &mesh.Workload{UID: "web", Namespace: "shop", Name: "web-1", OwnerKind: "deployment", OwnerName: "web", Meshed: true, Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}}
	db  = &mesh.Workload{UID: "db", Namespace: "data", Name: "db-1", OwnerKind: "statefulset", OwnerName: "db", Meshed: true, Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.2")}}

	webPort = netip.MustParseAddrPort("10.0.0.1:40000")
	dbPort  = netip.MustParseAddrPort("10.0.0.2:5432")
)

// newTable is a table of a node with web, whose events go to memory, too.
func newTable(now time.Time, direct func(string) ([]netns.Connection, error)) (t *Table, memory *figures.Store, emit func(tap.Event)) {
	memory = figures.NewStore(figures.Options{}, now)
	t = New(Options{
		Node: "node-1", Sinks: []tap.Sink{memory}, Direct: direct,
		Pods: func() []*mesh.Workload { return []*mesh.Workload{web} },
		Workload: func(a netip.Addr) *mesh.Workload {
			return map[netip.Addr]*mesh.Workload{web.Addrs[0]: web, db.Addrs[0]: db}[a]
		},
		Service: func(netip.Addr) *mesh.Service { return nil },
	})
	hub := tap.NewHub(t, memory)
	return t, memory, func(e tap.Event) { hub.Emit(&e) }
}

// tcp is what memory has of connections: over all windows, and in the last one alone.
func tcp(memory *figures.Store) (all figures.Sums) {
	now := time.Now()
	for _, e := range memory.Query(figures.Query{Start: now.Add(-10 * time.Minute), End: now.Add(figures.Window)}, now).Edges {
		all.Add(e.Total())
	}
	return all
}

type carried struct{ Opened, Closed, Open, Read, Written, Retransmits, SRTTs uint64 }

func of(s figures.Sums) carried {
	return carried{s.Opened, s.Closed, s.Open, s.Read, s.Written, s.Retransmits, s.SRTTs}
}

// A connection counts while it is open, and each byte and each retransmit counts once.
func TestLongConnections(t *testing.T) {
	open := tap.Event{
		Kind: tap.ConnOpen, TLS: tap.TLSTrue, Protocol: "tcp",
		Source: tap.Peer{Addr: webPort, Workload: web}, Destination: tap.Peer{Addr: dbPort, Workload: db},
	}
	inbound, leg, direct := open, open, open
	inbound.Direction = mesh.Inbound
	leg.Kind, leg.Side, leg.Protocol = tap.LegOpen, tap.ServerSide, "http2"
	direct.Origin, direct.TLS = tap.FromKernel, tap.TLSNotProxied
	for name, e := range map[string]tap.Event{"opaque": open, "inbound": inbound, "requests": leg, "direct": direct} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				live := &fake{}
				facts := func(srtt time.Duration, again uint32) {
					wire := tap.LiveLeg{Leg: tap.Leg{SRTT: srtt, Retransmits: again}}
					if e.Direction == mesh.Inbound {
						live.legs.Store(&tap.LiveLegs{Client: wire})
					} else {
						live.legs.Store(&tap.LiveLegs{Server: wire})
					}
				}
				var again atomic.Uint32
				table, memory, emit := newTable(time.Now(), func(uid string) ([]netns.Connection, error) {
					if uid != "web" || name != "direct" {
						return nil, nil
					}
					return []netns.Connection{{Local: webPort, Remote: dbPort, SRTT: time.Millisecond, Retransmits: again.Load(), Sent: live.read.Load(), Received: live.written.Load()}}, nil
				})
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error)
				go func() { done <- table.Run(ctx) }()
				defer func() { cancel(); <-done }()

				if name != "direct" {
					e.Live = live
				}
				e.Time = time.Now()
				emit(e)
				look := func(what string, want carried) {
					t.Helper()
					synctest.Wait()
					got := of(tcp(memory))
					got.SRTTs = min(got.SRTTs, want.SRTTs) // at least
					if diff := cmp.Diff(want, got); diff != "" {
						t.Errorf("%s (-want +got):\n%s", what, diff)
					}
				}
				time.Sleep(12 * time.Second)
				look("nothing was carried", carried{Opened: 1, Open: 1})
				facts(time.Millisecond, 2)
				again.Store(2)
				live.read.Add(100)
				live.written.Add(1000)
				time.Sleep(12 * time.Second)
				look("the first bytes", carried{Opened: 1, Open: 1, Read: 100, Written: 1000, Retransmits: 2, SRTTs: 1})
				for range 12 { // some at each look
					live.read.Add(1)
					time.Sleep(time.Second)
				}
				facts(time.Millisecond, 3)
				again.Store(3)
				for range 12 {
					live.read.Add(1)
					time.Sleep(time.Second)
				}
				seen := of(tcp(memory))
				if seen.Read < 100+24-uint64(factsEvery*growEvery/time.Second)-2 || seen.Retransmits != 3 || seen.SRTTs == 0 {
					t.Errorf("while it is open: %+v, want about 124 bytes read, 3 retransmits and a round-trip time", seen)
				}
				e.Kind++ // the close
				e.Time, e.Duration, e.ReadBytes, e.WriteBytes, e.Retransmits = time.Now(), time.Minute, 130, 1000, 4
				if early := of(tcp(memory)); early.Closed != 0 {
					t.Fatalf("closed before the end: %+v", early)
				}
				emit(e)
				time.Sleep(12 * time.Second)
				look("at the end", carried{Opened: 1, Closed: 1, Read: 130, Written: 1000, Retransmits: 4, SRTTs: 1})
				if proxied, others := table.Len(); proxied+others != 0 {
					t.Errorf("%d and %d connections are left, want none", proxied, others)
				}
			})
		})
	}
}

// A connection that carries nothing costs no system call, and one that does costs one or two
// in ten seconds.
func TestKernelIsAskedRarely(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table, _, emit := newTable(time.Now(), nil)
		const n = 1000
		all := make([]*fake, n)
		for i := range all {
			all[i] = &fake{}
			emit(tap.Event{Kind: tap.ConnOpen, Time: time.Now(), Live: all[i], Source: tap.Peer{Workload: web}, Protocol: "tcp"})
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20500*time.Millisecond)
		defer cancel()
		over := make(chan struct{})
		go func() {
			time.Sleep(growEvery / 2)
			for ctx.Err() == nil {
				for i := range n / 2 {
					all[i].read.Add(1)
				}
				time.Sleep(growEvery)
			}
			close(over)
		}()
		if err := table.Run(ctx); err != nil {
			t.Fatal(err)
		}
		<-over
		for i, f := range all {
			if got, most := f.asked.Load(), uint64(2); i < n/2 && (got == 0 || got > most) || i >= n/2 && got != 0 {
				t.Fatalf("connection %d: asked %d times in 20 s; want 1 or 2 for the busy half, never for the other", i, got)
			}
		}
	})
}

// What the kernel does not have any more is forgotten, though its close was lost, and no
// longer counts as open. It counts once: a close that is late, but not lost, is no second one.
func TestLostClose(t *testing.T) {
	for name, late := range map[string]bool{"lost": false, "late": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sockets := []netns.Connection{{Local: webPort, Remote: dbPort, Sent: 5, Received: 7}}
				table, memory, emit := newTable(time.Now(), func(string) ([]netns.Connection, error) { return sockets, nil })
				e := tap.Event{
					Kind: tap.ConnOpen, Origin: tap.FromKernel, Time: time.Now(), TLS: tap.TLSNotProxied,
					Source: tap.Peer{Addr: webPort, Workload: web}, Destination: tap.Peer{Addr: dbPort},
				}
				emit(e)
				run := func(d time.Duration) {
					t.Helper()
					ctx, cancel := context.WithTimeout(t.Context(), d)
					defer cancel()
					if err := table.Run(ctx); err != nil {
						t.Fatal(err)
					}
				}
				run(25 * time.Second)
				sockets = nil
				run(time.Minute)
				if late {
					e.Kind, e.Time, e.Duration, e.ReadBytes, e.WriteBytes = tap.ConnClose, time.Now(), time.Since(e.Time), 6, 7
					emit(e)
				}
				run(2 * time.Minute)
				if _, others := table.Len(); others != 0 {
					t.Errorf("%d connections are left, want none", others)
				}
				want := carried{Opened: 1, Closed: 1, Read: 5, Written: 7}
				if late {
					want.Read = 6
				}
				got := of(tcp(memory))
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
		})
	}
}

// line is a connection of an answer as text.
func line(c *agentv1.OpenConnection) string {
	e := c.GetEvent()
	text := e.GetSource().GetWorkload().GetName() + " > " + e.GetDestination().GetWorkload().GetName() + " " + e.GetTls()
	if e.GetTime() != nil {
		text += " known"
	}
	if c.GetClient() != nil {
		text += " client"
	}
	if c.GetServer() != nil {
		text += " server " + c.GetServer().GetRemote()
	}
	return text
}

func TestList(t *testing.T) {
	now := time.Now()
	table, _, emit := newTable(now, func(string) ([]netns.Connection, error) {
		return []netns.Connection{
			{Local: webPort, Remote: dbPort, SRTT: time.Millisecond, Sent: 5, Received: 7},
			{Local: netip.MustParseAddrPort("10.0.0.1:80"), Remote: netip.MustParseAddrPort("192.0.2.1:1000"), Server: true, Sent: 5, Received: 7},
		}, nil
	})
	live := &fake{}
	live.legs.Store(&tap.LiveLegs{
		Client: tap.LiveLeg{Local: netip.MustParseAddrPort("127.0.0.1:15001"), Remote: webPort},
		Server: tap.LiveLeg{Local: netip.MustParseAddrPort("10.0.0.1:41000"), Remote: dbPort, Leg: tap.Leg{SRTT: time.Second, Retransmits: 3}},
	})
	live.read.Store(10)
	live.written.Store(20)
	from, to := tap.Peer{Addr: webPort, Workload: web}, tap.Peer{Addr: dbPort} // whose pod is known by now
	emit(tap.Event{Kind: tap.ConnOpen, Live: live, Time: now, TLS: tap.TLSTrue, Source: from, Destination: to, Service: &mesh.Service{Namespace: "data", Name: "postgres"}})
	emit(tap.Event{Kind: tap.ConnOpen, Origin: tap.FromKernel, Time: now.Add(-time.Minute), TLS: tap.TLSNotProxied, Source: from, Destination: to})
	const (
		carried = "web-1 > db-1 true known client server 10.0.0.2:5432"
		direct  = "web-1 > db-1 not-proxied known server 10.0.0.2:5432"
		outside = " > web-1 not-proxied server 192.0.2.1:1000" // opened before the agent knew the pod
	)
	for _, tc := range []struct {
		request *agentv1.ConnectionsRequest
		total   uint64
		want    []string
	}{
		{&agentv1.ConnectionsRequest{}, 3, []string{outside, direct, carried}},
		{&agentv1.ConnectionsRequest{Limit: 2}, 3, []string{outside, direct}},
		{&agentv1.ConnectionsRequest{Target: "sts/db"}, 2, []string{direct, carried}},
		{&agentv1.ConnectionsRequest{Target: "svc/postgres"}, 1, []string{carried}},
		{&agentv1.ConnectionsRequest{Namespace: "data"}, 2, []string{direct, carried}},
		{&agentv1.ConnectionsRequest{Target: "pod/other"}, 0, nil},
	} {
		got, err := table.List(t.Context(), tc.request)
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		for _, c := range got.GetConnections() {
			lines = append(lines, line(c))
		}
		if diff := cmp.Diff(tc.want, lines); diff != "" || got.GetTotal() != tc.total {
			t.Errorf("%v: total %d, want %d (-want +got):\n%s", tc.request, got.GetTotal(), tc.total, diff)
		}
	}
	all, _ := table.List(t.Context(), &agentv1.ConnectionsRequest{})
	if e := all.GetConnections()[2].GetEvent(); e.GetReadBytes() != 10 || e.GetWriteBytes() != 20 || e.GetSrtt().AsDuration() != time.Second || e.GetRetransmits() != 3 {
		t.Errorf("%v, want 10 and 20 bytes and the facts of the server's side", e)
	}
	if e := all.GetConnections()[0].GetEvent(); e.GetReadBytes() != 7 || e.GetWriteBytes() != 5 || !e.GetInbound() {
		t.Errorf("%v, want an inbound connection with 7 bytes read from the client, and 5 written", e)
	}
	if _, err := table.List(t.Context(), &agentv1.ConnectionsRequest{Target: "web"}); err == nil {
		t.Error("no error for a target that is none")
	}
}

// Questions above the limit wait, and end with their context.
func TestListWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table, _, _ := newTable(time.Now(), nil)
		for range maxAsked {
			table.asked <- struct{}{}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := table.List(ctx, &agentv1.ConnectionsRequest{}); err != context.DeadlineExceeded {
			t.Errorf("%v, want that the time is over", err)
		}
		<-table.asked
		if _, err := table.List(t.Context(), &agentv1.ConnectionsRequest{}); err != nil {
			t.Error(err)
		}
	})
}

// BenchmarkGrow is a look at 10,000 connections, of which none, or all, have carried
// something.
func BenchmarkGrow(b *testing.B) {
	for name, busy := range map[string]uint64{"idle": 0, "busy": 1} {
		b.Run(name, func(b *testing.B) {
			table, _, emit := newTable(time.Now(), nil)
			all := make([]*fake, 10_000)
			for i := range all {
				all[i] = &fake{}
				emit(tap.Event{Kind: tap.ConnOpen, Time: time.Now(), Live: all[i], TLS: tap.TLSTrue, Protocol: "tcp", Source: tap.Peer{Addr: webPort, Workload: web}, Destination: tap.Peer{Addr: dbPort, Workload: db}})
			}
			b.ReportAllocs()
			turn := 0
			for b.Loop() {
				for _, f := range all {
					f.read.Add(busy)
				}
				turn++
				table.grow(b.Context(), time.Now(), turn)
			}
		})
	}
}
