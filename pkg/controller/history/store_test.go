package history

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/underlane/underlane/pkg/figures"
	"github.com/underlane/underlane/pkg/histogram"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

// epoch is a multiple of five minutes.
var epoch = time.Unix(1_800_000_000, 0).UTC()

// buckets compares histograms by their buckets.
var buckets = cmp.Transformer("buckets", func(h *histogram.Histogram) map[int]uint64 {
	counts := map[int]uint64{}
	if h != nil {
		for bucket, n := range h.Buckets() {
			counts[bucket] = n
		}
	}
	return counts
})

func end(namespace, name string) figures.End {
	return figures.End{Namespace: namespace, Kind: "deployment", Name: name, Identity: "spiffe://cluster.local/ns/" + namespace + "/sa/" + name, Meshed: true}
}

func key(from, to string, side mesh.Direction) figures.Key {
	k := figures.Key{Direction: side, Source: end("shop", from), Destination: end("data", to), Protocol: "http2", TLS: tap.TLSTrue}
	if side == mesh.Outbound {
		k.Service = figures.Service{Namespace: "data", Name: to}
	}
	return k
}

// requests are n requests, each of this latency, of which some fail.
func requests(n, failed uint64, latency time.Duration) *figures.Sums {
	s := &figures.Sums{Success: n - failed, Latency: new(histogram.Histogram)}
	s.Fail(mesh.ReasonTimeout, failed)
	s.Latency.Add(histogram.BucketOf(latency), n)
	s.Parts[figures.FirstByte] = time.Duration(n) * latency
	return s
}

func edgeOf(k figures.Key, points ...*figures.Sums) figures.Edge {
	return figures.Edge{Key: k, Points: points}
}

// minute adds a whole minute of one node.
func (s *Store) minute(m int64, edges ...figures.Edge) {
	s.begin(m, []string{"node-1"})
	p := pending{}
	s.answered(p, "node-1", m, 1, 0, edges)
	s.commit(p)
	s.missed(m - recent + 1)
	s.finish(m)
}

func everything(k figures.Key) (figures.Key, bool) { return k, true }

func TestCodec(t *testing.T) {
	full := &figures.Sums{
		Success: 3, Failures: []figures.Failure{{Reason: mesh.ReasonNone, Count: 1}, {Reason: mesh.ReasonTimeout, Count: 100}}, Retries: 4,
		Latency: new(histogram.Histogram), Parts: [figures.NumParts]time.Duration{1000, 0, 3000, 255000, 0},
		Opened: 5, Closed: 6, Failed: 7, Open: 8, Read: 9, Written: 1 << 60, SRTT: 11000, SRTTs: 12, Retransmits: 13,
	}
	for _, d := range []time.Duration{0, 90 * time.Microsecond, time.Millisecond, time.Millisecond, time.Hour} {
		full.Latency.Observe(d)
	}
	full.Latency.Add(5, 10_000)
	r := newReasons(nil)
	for name, want := range map[string]*figures.Sums{
		"nothing": {}, "full": full, "requests": requests(40, 2, 200*time.Millisecond), "open": {Open: 1}, "idle": {Open: 3, Retries: 1},
		"most": {Success: math.MaxUint64, Read: math.MaxUint64},
	} {
		var c columns
		if c.sums(r, want) == (name == "nothing") || (len(c.head) == 0) != (name == "nothing") {
			t.Errorf("%s: %d bytes", name, len(c.head))
		}
		if len(c.head) == 0 {
			continue
		}
		for _, skip := range []bool{false, true} {
			in, got := reader{columns: c, reasons: r, kept: new([]byte)}, &figures.Sums{}
			if skip {
				in.sums(nil)
			} else {
				got.Open = in.sums(got)
			}
			if len(in.head)+len(in.buckets)+len(in.parts) > 0 || in.err != nil {
				t.Errorf("%s, skip %v: %v is left, %v", name, skip, in.columns, in.err)
			}
			if diff := cmp.Diff(want, got, buckets, rounded()); diff != "" && !skip {
				t.Errorf("%s: (-want +got):\n%s", name, diff)
			}
		}
	}
}

// rounded compares times as the encoding keeps them.
func rounded() cmp.Option {
	return cmp.Comparer(func(a, b time.Duration) bool { return (a - b).Abs() <= max(a, b)/250 })
}

// TestReasons: numbers of another version keep their meaning.
func TestReasons(t *testing.T) {
	old := newReasons([]string{"", "timeout", "gone-in-this-version", "policy-denied"})
	s := requests(10, 3, time.Millisecond)
	var c columns
	c.sums(old, s)
	in, got := reader{columns: c, reasons: newReasons(old.names), kept: new([]byte)}, &figures.Sums{}
	in.sums(got)
	if diff := cmp.Diff(s.Failures, got.Failures); diff != "" {
		t.Error("(-want +got):", diff)
	}
}

// TestSteps: what was counted is the same in minutes, in coarse steps and as one sum.
func TestSteps(t *testing.T) {
	s := NewStore(0)
	first := minuteOf(epoch)
	const minutes = 5 * 60
	for m := first; m < first+minutes; m++ {
		n := uint64(m - first)
		s.minute(m, edgeOf(key("web", "db", mesh.Outbound), requests(10+n, n%3, time.Millisecond)), edgeOf(key("web", "db", mesh.Inbound), &figures.Sums{Open: n, Opened: 1}))
	}
	now := epoch.Add(minutes * time.Minute)
	for _, tc := range []struct {
		window, step  time.Duration
		start         time.Duration // after the epoch
		points        int
		step2         time.Duration
		first, second uint64 // requests in the first point
	}{
		{time.Hour, Minute, 4 * time.Hour, 60, Minute, 250, 251},
		{time.Hour, 90 * time.Second, 4 * time.Hour, 60, Minute, 250, 251},
		{time.Hour, 10 * Minute, 4 * time.Hour, 6, 10 * Minute, 2545, 2645},
		{4 * time.Hour, Minute, time.Hour, 48, Coarse, 360, 385}, // 10+60 … 10+64, and so on
		{4 * time.Hour, 7 * Minute, time.Hour, 24, 10 * Minute, 745, 845},
		{5 * time.Hour, 0, 0, 1, 5 * time.Hour, 10*300 + 299*150, 0},
		{30 * time.Minute, 0, 270 * time.Minute, 1, 30 * time.Minute, 280*30 + 29*15, 0},
	} {
		a := s.Query(Query{Start: now.Add(-tc.window), End: now, Step: tc.step, Group: func(k figures.Key) (figures.Key, bool) { return k, k.Direction == mesh.Outbound }})
		name := fmt.Sprint(tc.window, " by ", tc.step)
		if !a.Start.Equal(epoch.Add(tc.start)) || !a.End.Equal(now) || a.Step != tc.step2 || len(a.Edges) != 1 || len(a.Gaps) > 0 || a.Covered != now.Sub(a.Start) {
			t.Errorf("%s: %v to %v by %v, covered %v, %d edges, gaps %v; want %v to %v by %v and one edge", name, a.Start, a.End, a.Step, a.Covered, len(a.Edges), a.Gaps, epoch.Add(tc.start), now, tc.step2)
			continue
		}
		points := a.Edges[0].Points
		if len(points) != tc.points || points[0].Requests() != tc.first || tc.second > 0 && points[1].Requests() != tc.second {
			t.Errorf("%s: %d points, the first ones %d and %d requests; want %d, %d and %d", name, len(points), points[0].Requests(), points[min(1, len(points)-1)].Requests(), tc.points, tc.first, tc.second)
		}
	}
	// Connections that are open are those of the end of each point.
	a := s.Query(Query{Start: epoch, End: now, Step: 30 * Minute, Group: func(k figures.Key) (figures.Key, bool) { return k, k.Direction == mesh.Inbound }})
	for i, p := range a.Edges[0].Points {
		if want := uint64(30*i + 29); p.Open != want || p.Opened != 30 {
			t.Errorf("point %d: %d open and %d opened, want %d and 30", i, p.Open, p.Opened, want)
		}
	}
}

// TestForgetting: after 24 hours figures are gone, and the names with them.
func TestForgetting(t *testing.T) {
	s := NewStore(0)
	m := minuteOf(epoch)
	for i := range int64(30 * 60) {
		s.minute(m+i, edgeOf(key(fmt.Sprint("job-", i/10), "db", mesh.Outbound), requests(1, 0, time.Millisecond)))
	}
	stats := s.Stats()
	if kept := stats.Until.Sub(stats.Since); kept != Keep || stats.Edges < 144 || stats.Edges > 152 {
		t.Errorf("%v with %d edges are kept, want 24h0m0s with 144 to 152", kept, stats.Edges)
	}
	if n := len(s.names.ends); n > 160 {
		t.Errorf("%d names of workloads, want about one for each edge", n)
	}
	a := s.Query(Query{Start: epoch, End: epoch.Add(30 * time.Hour), Group: everything})
	if len(a.Edges) != stats.Edges || a.Since != stats.Since || a.Covered != Keep || len(a.Gaps) != 1 {
		t.Errorf("%d edges since %v, %v, gaps %v; want %d since %v, one gap before that", len(a.Edges), a.Since, a.Covered, a.Gaps, stats.Edges, stats.Since)
	}
}

// TestNothing: what is not known is a gap of the length that was asked for.
func TestNothing(t *testing.T) {
	s := NewStore(0)
	now := epoch.Add(7*time.Hour + 20*time.Second)
	for _, filled := range []bool{false, true} {
		if filled {
			s.minute(minuteOf(epoch), edgeOf(key("web", "db", mesh.Outbound), requests(1, 0, time.Millisecond)))
		}
		for step, want := range map[time.Duration]time.Duration{0: 3 * time.Hour, time.Second: Minute, 10 * time.Minute: 10 * time.Minute} {
			a := s.Query(Query{Start: now.Add(-3 * time.Hour), End: now, Step: step, Group: everything})
			if a.Step != want || len(a.Edges) > 0 || len(a.Gaps) != 1 || a.Covered > 0 || now.Sub(a.End) > 5*time.Minute || a.End.Sub(a.Start) != 3*time.Hour || a.Gaps[0].Start != a.Start || a.Gaps[0].End != a.End {
				t.Errorf("filled %v, step %v: %+v, want one gap of three hours with steps of %v", filled, step, a, want)
			}
		}
	}
}

// TestBeforeTheMesh: of the time before the controller looked, nothing is known while no
// agent can be asked. The minutes after that are known to be without traffic.
func TestBeforeTheMesh(t *testing.T) {
	s := NewStore(0)
	m := minuteOf(epoch)
	minute := func(i int64) {
		s.begin(m+i, nil)
		s.missed(m + i - recent + 1)
		s.finish(m + i)
	}
	known := func(when string, covered time.Duration, gaps ...Gap) {
		t.Helper()
		a := s.Query(Query{Start: epoch.Add(-20 * time.Minute), End: epoch.Add(40 * time.Minute), Step: Minute, Group: everything})
		if diff := cmp.Diff(gaps, a.Gaps); diff != "" || a.Covered != covered {
			t.Errorf("%s: covered %v, want %v; gaps (-want +got):\n%s", when, a.Covered, covered, diff)
		}
	}
	offset := func(minutes int) time.Time { return at(m + int64(minutes)) }
	minute(0)
	known("at the start", 0, Gap{Start: offset(-20), End: offset(40)})
	minute(1)
	minute(2)
	known("after two minutes", 2*Minute, Gap{Start: offset(-20), End: offset(1)}, Gap{Start: offset(3), End: offset(40)})
	minute(10) // it was away
	minute(11)
	known("after it was away", 3*Minute, Gap{Start: offset(-20), End: offset(1)}, Gap{Start: offset(3), End: offset(11)}, Gap{Start: offset(12), End: offset(40)})
}

// traffic makes the figures of pairs of workloads whose rates differ as those of real
// services do, with this many requests a minute in the mean. Both sides report.
func traffic(pairs int, mean float64) [][]figures.Edge {
	const variants = 4
	r := rand.New(rand.NewPCG(5, 6))
	out := make([][]figures.Edge, variants)
	for i := range pairs {
		rate, typical := mean*math.Exp(r.NormFloat64()-0.5), 1e6*math.Exp2(float64(i%8))
		for v := range out {
			for _, side := range []mesh.Direction{mesh.Outbound, mesh.Inbound} {
				s := &figures.Sums{Open: 3, Opened: 1, Closed: 1, Read: uint64(rate * 900 * r.Float64()), Written: uint64(rate * 3000 * r.Float64()), SRTT: time.Millisecond, SRTTs: 1}
				if i%10 > 0 { // every tenth is one of connections
					s.Latency = new(histogram.Histogram)
					n := uint64(rate*(0.8+0.4*r.Float64())) + 1
					for range n {
						d := time.Duration(typical * math.Exp(0.5*r.NormFloat64()))
						s.Latency.Observe(d)
						s.Parts[figures.FirstByte] += d
						s.Parts[figures.Queue] += time.Duration(50_000 * r.Float64())
						s.Parts[figures.Body] += time.Duration(1e6 * r.Float64())
					}
					s.Fail(mesh.ReasonNone, n/200)
					s.Success = n - s.FailedRequests()
				}
				out[v] = append(out[v], edgeOf(key(fmt.Sprint("client-", i/50), fmt.Sprint("server-", i%50, "-", i/2500), side), s))
			}
		}
	}
	return out
}

func heap() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// play plays some time, and returns the bytes that the Store takes.
func play(t *testing.T, s *Store, edges [][]figures.Edge, d time.Duration) int {
	m, r := minuteOf(epoch), rand.New(rand.NewPCG(1, 2))
	before := heap()
	var nodes []string
	for i := range max(8, len(edges[0])/1000) { // each may have an eighth of the edges
		nodes = append(nodes, fmt.Sprint("node-", i))
	}
	slices.Sort(nodes)
	for i := range int64(d / Minute) {
		reports := edges[r.IntN(len(edges))]
		s.begin(m+i, nodes)
		p := pending{}
		for j, node := range nodes {
			s.answered(p, node, m+i, 1, 0, reports[j*len(reports)/len(nodes):(j+1)*len(reports)/len(nodes)])
		}
		s.commit(p)
		s.missed(m + i - recent + 1)
		s.finish(m + i)
	}
	s.packer = packer{}
	used := heap() - before
	stats := s.Stats()
	t.Logf("%d pairs, %d edges: %d bytes, estimated %d; reaches back %v", len(edges[0])/2, stats.Edges, used, stats.Bytes, stats.Until.Sub(stats.Since))
	if used > stats.Bytes*12/10 {
		t.Errorf("%d bytes are used, %d are estimated", used, stats.Bytes)
	}
	return used
}

// memories are cases of TestMemory and TestFullMemory: figures of docs/reference/limits.md.
type memories []struct {
	pairs, bytes int
	mean         float64 // requests a minute of a pair
	plays, keeps time.Duration
}

func (m memories) test(t *testing.T) {
	for _, tc := range m {
		s := NewStore(tc.bytes)
		used := play(t, s, traffic(tc.pairs, tc.mean), tc.plays)
		if kept := s.Stats().Until.Sub(s.Stats().Since); used > s.bytes*11/10 || kept < tc.keeps {
			t.Errorf("%d pairs: %d bytes for %v, want at most %d and %v", tc.pairs, used, kept, s.bytes, tc.keeps)
		}
	}
}

// TestMemory measures the heap after 24 hours of some pairs of workloads, in the part of the
// budget that is theirs: of 1,000 pairs with 500 and 5,000 requests a second, and of 10,000
// with 50,000, also in 512 MiB.
func TestMemory(t *testing.T) {
	withoutRaceDetector(t)
	s := NewStore(0)
	used := play(t, s, traffic(40, 300), Keep)
	if kept := s.Stats().Until.Sub(s.Stats().Since); used > 40*72_000 || kept != Keep {
		t.Errorf("%d bytes for %v, want at most 72 kB for a pair and %v", used, kept, Keep)
	}
	memories{
		{40, DefaultBytes / 25, 300, Keep, Keep},
		{200, DefaultBytes / 50, 300, 6 * time.Hour, 3 * time.Hour}, // small blocks cost more
	}.test(t)
}

// TestFullMemory is TestMemory in the real sizes. What takes the time is the number of
// records, each of which is added, packed and later merged. 10,000 pairs make 29 million of
// them in 24 hours, which took most of the six minutes of this test: they run for as long
// only as 64 MiB reach back.
func TestFullMemory(t *testing.T) {
	withoutRaceDetector(t)
	memories{
		{40, DefaultBytes / 25, 30, Keep, Keep},
		{50, 8 * DefaultBytes / 200, 300, Keep, Keep},
		{1000, 0, 300, Keep, Keep},
		{10_000, 0, 300, 5 * time.Hour, 4 * time.Hour},
	}.test(t)
}

// A time that is shorter than a step is answered with the step that it is in.
func TestShortTimesAreWholeSteps(t *testing.T) {
	s := NewStore(1 << 20)
	first := minuteOf(epoch)
	for m := first; m < first+4*60; m++ { // the first hour is kept in steps of five minutes
		s.minute(m, edgeOf(key("web", "db", mesh.Outbound), requests(10, 1, time.Millisecond)))
	}
	for _, tc := range []struct {
		after, window time.Duration
		minutes       uint64
	}{
		{3*time.Hour + 10*time.Second, 20 * time.Second, 1},
		{3 * time.Hour, 20 * time.Second, 1},
		{3 * time.Hour, time.Minute, 1},
		{3*time.Hour + 50*time.Second, 20 * time.Second, 2},
		{10*time.Minute + 10*time.Second, 20 * time.Second, 5},
		{10 * time.Minute, time.Minute, 5},
		{14*time.Minute + 50*time.Second, 20 * time.Second, 10},
		{4*time.Hour - 20*time.Second, 20 * time.Second, 1}, // the newest one
	} {
		start := epoch.Add(tc.after)
		a := s.Query(Query{Start: start, End: start.Add(tc.window), Group: everything})
		var got uint64
		for i := range a.Edges {
			sums := a.Edges[i].Total()
			got += sums.Requests()
		}
		if want := 10 * tc.minutes; got != want || a.Covered != time.Duration(tc.minutes)*time.Minute || a.Start.After(start) || a.End.Before(start.Add(tc.window)) {
			t.Errorf("%v from %v on: %d requests of %v to %v, %v of it covered; want %d of %d minutes", tc.window, tc.after, got, a.Start.Sub(epoch), a.End.Sub(epoch), a.Covered, want, tc.minutes)
		}
	}
}

// Names of an agent that lies take the place of no other's: an edge with longer ones than
// Kubernetes has is not kept.
func TestLongNames(t *testing.T) {
	s := NewStore(4 << 20)
	first := minuteOf(epoch)
	honest := edgeOf(key("web", "db", mesh.Outbound), requests(10, 0, time.Millisecond))
	for m := first; m < first+30; m++ {
		s.begin(m, []string{"node-1", "node-2"})
		p := pending{}
		s.answered(p, "node-1", m, 1, 0, []figures.Edge{honest})
		var lies []figures.Edge
		for i := range 8 {
			long := strings.Repeat(string(rune('a'+i)), 1<<20)
			for _, change := range []func(*figures.Key){
				func(k *figures.Key) { k.Source.Name = long },
				func(k *figures.Key) { k.Destination.Identity = long },
				func(k *figures.Key) { k.Destination.Namespace = long },
				func(k *figures.Key) { k.Source.Kind = long },
				func(k *figures.Key) { k.Service.Name = long },
				func(k *figures.Key) { k.Protocol = long },
				func(k *figures.Key) { k.TLS = long },
			} {
				k := key("a", "b", mesh.Outbound)
				change(&k)
				lies = append(lies, edgeOf(k, requests(1, 0, time.Millisecond)))
			}
		}
		s.answered(p, "node-2", m, 1, 0, lies)
		s.commit(p)
		s.missed(m - recent + 1)
		s.finish(m)
	}
	a := s.Query(Query{Start: epoch, End: epoch.Add(30 * time.Minute), Group: everything})
	if len(a.Edges) != 1 || a.Covered != 30*time.Minute || !a.Trimmed.IsZero() {
		t.Fatalf("%d edges of %v, trimmed at %v; want the one of 30 minutes", len(a.Edges), a.Covered, a.Trimmed)
	}
	if sums := a.Edges[0].Total(); sums.Requests() != 300 || a.Dropped != 30*8*7 {
		t.Errorf("%d requests, %d dropped; want 300, and all with long names", sums.Requests(), a.Dropped)
	}
	if n := s.Stats().Bytes; n > 1<<20 {
		t.Errorf("%d bytes are used", n)
	}
}
