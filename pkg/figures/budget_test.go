package figures

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

func addr(text string) netip.AddrPort { return netip.MustParseAddrPort(text) }

func TestEmitAllocatesNothing(t *testing.T) {
	s := NewStore(Options{}, epoch)
	web, db := pod("web", 1, "node-1"), pod("db", 1, "node-2")
	failed := request(web, db, 502, time.Millisecond)
	failed.Reason = mesh.ReasonConnectRefused
	local := request(web, db, 200, time.Millisecond)
	local.TLS = tap.TLSSameNode
	outside := request(web, nil, 200, time.Millisecond)
	outside.Outside = "example.com"
	for name, e := range map[string]*tap.Event{
		"request": request(web, db, 200, time.Millisecond), "failure": failed, "same node": local, "outside": outside,
		"open": connection(tap.ConnOpen, web, db), "close": connection(tap.ConnClose, web, db),
	} {
		for range 100 { // until its key is known
			s.Emit(e)
		}
		if n := testing.AllocsPerRun(1000, func() { s.Emit(e) }); n != 0 {
			t.Errorf("%s: %v allocations, want 0", name, n)
		}
	}
}

// traffic makes the requests of a busy node: edges whose rates differ as those of real
// services do (a few have most requests), each with latencies around its own.
type traffic struct {
	rand  *rand.Rand
	pods  []*mesh.Workload
	peers []*mesh.Workload
	svc   []*mesh.Service
	// spread has what latencies are multiplied by: drawing each anew takes too long.
	spread [1 << 14]float64
}

func newTraffic() *traffic {
	tr := &traffic{rand: rand.New(rand.NewPCG(5, 6))}
	for i := range tr.spread {
		tr.spread[i] = math.Exp(0.5 * tr.rand.NormFloat64())
	}
	for i := range 40 {
		tr.pods = append(tr.pods, pod(fmt.Sprint("client-", i/2), i%2, "node-1"))
	}
	for i := range 25 {
		tr.peers = append(tr.peers, pod(fmt.Sprint("server-", i), 0, "node-2"))
		tr.svc = append(tr.svc, &mesh.Service{Namespace: "shop", Name: fmt.Sprint("server-", i)})
	}
	return tr
}

// window emits what 1,000 edges do in a window with this many requests in the mean. Every
// tenth edge is one of connections.
func (tr *traffic) window(s *Store, mean float64) {
	for i, from := range tr.pods {
		for j, to := range tr.peers {
			edge := i*len(tr.peers) + j
			if edge%10 == 0 {
				s.Emit(connection(tap.ConnOpen, from, to))
				s.Emit(connection(tap.ConnClose, from, to))
				continue
			}
			rate := mean * math.Exp(tr.rand.NormFloat64()-0.5)
			typical := 1e6 * math.Exp2(float64(edge%8))
			e := request(from, to, 200, 0)
			e.Service = tr.svc[j]
			for range int(rate) {
				n := tr.rand.IntN(len(tr.spread))
				e.Latency = time.Duration(typical * tr.spread[n])
				e.Split = tap.Split{Queue: 50 * time.Microsecond, FirstByte: e.Latency, Body: time.Millisecond}
				e.Status = 200
				if n%200 == 0 {
					e.Status = 503
				}
				s.Emit(e)
			}
		}
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

type load struct {
	mean    float64
	windows int
}

// TestMemory measures the heap after 15 minutes of 1,000 edges. A busy node has 5,000
// requests a second, which is what its 15 minutes fit into. A node that has many more
// forgets earlier.
func TestMemory(t *testing.T) {
	for name, tc := range loads {
		tr := newTraffic()
		before := heap()
		s := NewStore(Options{}, epoch)
		now := epoch
		for range DefaultWindows + 5 {
			tr.window(s, tc.mean)
			now = now.Add(Window)
			s.Rotate(now)
		}
		tr.window(s, tc.mean)
		used := int(heap() - before)
		t.Logf("%s: %d bytes, of which %d in %d windows of %d edges; estimated %d", name, used, s.bytes, len(s.windows), len(s.edges), s.size()+s.bytes)
		if used > DefaultBytes {
			t.Errorf("%s: %d bytes, want at most %d", name, used, DefaultBytes)
		}
		if kept := int(now.Sub(all(s, now).Since) / Window); kept < tc.windows || len(s.edges) != 1000 {
			t.Errorf("%s: %d windows of %d edges are kept, want %d of 1000", name, kept, len(s.edges), tc.windows)
		}
		runtime.KeepAlive(tr)
	}
}

// TestFolding has more keys of one pod than are counted one by one.
func TestFolding(t *testing.T) {
	s := NewStore(Options{Edges: 800}, epoch)
	web := pod("web", 1, "node-1")
	emit := func(n int, to func(int) *mesh.Workload) {
		for i := range n {
			s.Emit(request(web, to(i), 200, time.Millisecond))
		}
	}
	emit(100, func(i int) *mesh.Workload { return pod("db", i, "node-2") })               // all in full
	emit(50, func(i int) *mesh.Workload { return pod("db", 1000+i, "node-2") })           // one key without the names
	emit(110, func(i int) *mesh.Workload { return pod(fmt.Sprint("w", i), 0, "node-2") }) // 99 such keys, 11 requests to others
	names := map[string]uint64{}
	for _, e := range all(s, epoch.Add(time.Second)).Edges {
		d := e.Key.Destination
		name := d.Kind
		if d.Pod == KindOther {
			name = "pods of one workload"
		} else if d.Pod != "" {
			name = "pod"
		}
		names[name] += e.Total().Requests()
	}
	if names["pod"] != 100 || names["pods of one workload"] != 50+99 || names[KindOther] != 11 {
		t.Errorf("%v, want 100 requests to single pods, 149 to those of a workload, 11 to others", names)
	}
	if folded, dropped := s.folded.Load(), s.dropped.Load(); folded != 160 || dropped != 0 {
		t.Errorf("%d folded and %d dropped, want 160 and 0", folded, dropped)
	}
	// Peers on many nodes cannot be folded into one, because each node's agent reports.
	emit(110, func(i int) *mesh.Workload { return pod("far", i, fmt.Sprint("node-", 10+i)) })
	if got := s.dropped.Load(); got != 11 || len(s.edges) != 100+200 {
		t.Errorf("%d events dropped with %d keys, want 11, and 300 keys", got, len(s.edges))
	}
}

// TestGreedyPods: pods that connect to everything do not take the place of others.
func TestGreedyPods(t *testing.T) {
	s := NewStore(Options{}, epoch)
	for i := range 50_000 {
		e := request(pod(fmt.Sprint("greedy-", i%20), 1, "node-1"), nil, 200, time.Millisecond)
		e.Outside = fmt.Sprintf("host-%d.example.com", i)
		s.Emit(e)
		if i%20 == 0 {
			s.Emit(request(pod(fmt.Sprint("greedy-", i%20), 1, "node-1"), pod(fmt.Sprint("w", i), i, fmt.Sprint("node-", i)), 200, time.Millisecond))
		}
	}
	for i := range 100 {
		for j := range reserved {
			s.Emit(request(pod(fmt.Sprint("quiet-", i), 1, "node-1"), pod(fmt.Sprint("db-", j), 1, "node-2"), 200, time.Millisecond))
		}
	}
	seen := 0
	for _, e := range all(s, epoch.Add(time.Second)).Edges {
		if strings.HasPrefix(e.Key.Source.Name, "quiet-") && e.Key.Destination.Pod != KindOther && e.Key.Destination.Kind != KindOther {
			seen++
		}
	}
	if seen != 100*reserved || len(s.edges) > 2*DefaultEdges {
		t.Errorf("%d of %d pairs of quiet pods are counted, with %d keys in all, want all of them and at most %d keys", seen, 100*reserved, len(s.edges), 2*DefaultEdges)
	}
}

// TestNamesThatClientsMakeUp connects to ever new names.
func TestNamesThatClientsMakeUp(t *testing.T) {
	s := NewStore(Options{}, epoch)
	web := pod("web", 1, "node-1")
	before := heap()
	for i := range 50_000 {
		e := request(web, nil, 200, time.Millisecond)
		e.Outside = fmt.Sprintf("host-%d.example.com", i)
		s.Emit(e)
	}
	if used := int(heap()) - int(before); used > DefaultBytes {
		t.Errorf("50,000 names take %d bytes, want at most %d", used, DefaultBytes)
	}
	if got := s.folded.Load(); got < 49_000 {
		t.Errorf("%d events were folded, want most of 50,000", got)
	}
	runtime.KeepAlive(s)
}

func BenchmarkEmit(b *testing.B) {
	s := NewStore(Options{}, epoch)
	e := request(pod("web", 1, "node-1"), pod("db", 1, "node-2"), 200, time.Millisecond)
	e.Service = &mesh.Service{Namespace: "shop", Name: "db"}
	for range 100 {
		s.Emit(e)
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			s.Emit(e)
		}
	})
}

func BenchmarkRotateAndQuery(b *testing.B) {
	tr := newTraffic()
	s := NewStore(Options{}, epoch)
	now := epoch
	for range DefaultWindows {
		tr.window(s, 60)
		now = now.Add(Window)
		s.Rotate(now)
	}
	b.Run("query a minute by workload", func(b *testing.B) {
		for b.Loop() {
			s.Query(Query{Start: now.Add(-time.Minute), End: now, Group: (&Selection{By: ByWorkload}).Group}, now)
		}
	})
	b.Run("query all by pod", func(b *testing.B) {
		for b.Loop() {
			s.Query(Query{Start: epoch, End: now}, now)
		}
	})
}
