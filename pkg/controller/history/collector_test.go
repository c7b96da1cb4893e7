package history

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/controller/fanin"
	"github.com/underlane/underlane/pkg/figures"
	"github.com/underlane/underlane/pkg/figures/wire"
	"github.com/underlane/underlane/pkg/histogram"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

// node is a node with what its agent remembers, and a clock of its own.
type node struct {
	name   string
	clock  time.Duration // ahead of the controller's
	memory *figures.Store
	down   bool
	change func(*agentv1.FiguresResponse) // of an agent that lies
	asked  int
}

// fleet is a mesh of two nodes, a and b. Each second web, on node a, calls db, on node b,
// and cron, on node b, calls db.
type fleet struct {
	mu    sync.Mutex
	nodes []*node
	file  string
	store *Store
	log   strings.Builder
	stop  func()
	// unknown is how often Nodes is to say that they are not known yet.
	unknown atomic.Int64
}

func (f *fleet) node(name string) *node {
	return f.nodes[slices.IndexFunc(f.nodes, func(n *node) bool { return n.name == name })]
}

func (n *node) now() time.Time { return time.Now().Add(n.clock) }

// restart makes the agent forget.
func (f *fleet) restart(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.node(name)
	n.memory = figures.NewStore(figures.Options{}, n.now())
}

func (f *fleet) set(name string, change func(*node)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f.node(name))
}

// Ask is a Collector's.
func (f *fleet) Ask(_ context.Context, nodes []fanin.Node, r *agentv1.FiguresRequest) ([]*agentv1.FiguresResponse, []error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out, errs := make([]*agentv1.FiguresResponse, len(nodes)), make([]error, len(nodes))
	for i := range nodes {
		n := f.node(nodes[i].Name)
		n.asked++
		if n.down {
			errs[i] = errors.New("does not answer")
			continue
		}
		now := n.now()
		q, err := wire.Query(r, n.name, now)
		if err != nil {
			errs[i] = err
			continue
		}
		out[i] = wire.ToProto(n.memory.Query(q, now), n.name, wire.Skew(r, now), now)
		if n.change != nil {
			n.change(out[i])
		}
	}
	return out, errs
}

// Nodes is a Collector's. A controller that starts does not know the nodes for a moment.
func (f *fleet) Nodes() ([]fanin.Node, bool) {
	if f.unknown.Add(-1) > 0 {
		return nil, false
	}
	return []fanin.Node{{Name: "a"}, {Name: "b"}}, true
}

func pod(name, node string) *mesh.Workload {
	return &mesh.Workload{
		Namespace: "shop", Name: name + "-1", Node: node, OwnerKind: "deployment", OwnerName: name, Meshed: true,
		Identity: mesh.Identity{TrustDomain: "cluster.local", Namespace: "shop", ServiceAccount: name},
	}
}

// second is what happens each second.
func (f *fleet) second() {
	f.mu.Lock()
	defer f.mu.Unlock()
	web, db, cron := pod("web", "a"), pod("db", "b"), pod("cron", "b")
	a, b := f.node("a"), f.node("b")
	for _, n := range f.nodes {
		n.memory.Rotate(n.now())
	}
	e := tap.Event{
		Kind: tap.ResponseEnd, TLS: tap.TLSTrue, Protocol: "http2", Status: 200, Latency: 5 * time.Millisecond,
		Source: tap.Peer{Workload: web}, Destination: tap.Peer{Workload: db}, Service: &mesh.Service{Namespace: "shop", Name: "db"},
	}
	local := e
	a.memory.Emit(&e)
	e.Direction, e.Latency, e.Service = mesh.Inbound, 3*time.Millisecond, nil
	b.memory.Emit(&e)
	local.TLS, local.Source.Workload = tap.TLSSameNode, cron
	b.memory.Emit(&local)
}

// newFleet starts the mesh and its controller, in a bubble of synctest.
func newFleet(t *testing.T) *fleet {
	f := &fleet{file: filepath.Join(t.TempDir(), "history")}
	time.Sleep(time.Until(epoch)) // the bubble's clock starts at midnight, UTC 2000-01-01
	for _, name := range []string{"a", "b"} {
		f.nodes = append(f.nodes, &node{name: name, memory: figures.NewStore(figures.Options{}, time.Now())})
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		time.Sleep(500 * time.Millisecond)
		for ctx.Err() == nil {
			f.second()
			time.Sleep(time.Second)
		}
	}()
	f.start()
	t.Cleanup(func() {
		f.stop()
		cancel()
		<-done
	})
	return f
}

// start starts a controller.
func (f *fleet) start() {
	f.store = NewStore(0)
	f.unknown.Store(3)
	c := &Collector{Store: f.store, Nodes: f.Nodes, Ask: f.Ask, File: f.file, Log: slog.New(slog.NewTextHandler(&f.log, nil))}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.Run(ctx)
	}()
	f.stop = func() {
		cancel()
		<-done
	}
}

// after sleeps until so long after the epoch, and ten seconds more.
func after(d time.Duration) {
	time.Sleep(time.Until(epoch.Add(d + 10*time.Second)))
}

// ask asks for the time from the epoch on, for one side.
func (f *fleet) ask(d, step time.Duration, side mesh.Direction) *Answer {
	s := figures.Selection{By: figures.ByWorkload, Side: side}
	return f.store.Query(Query{Start: epoch, End: epoch.Add(d), Step: step, Group: s.Group})
}

// points are the requests of an edge, -1 for null.
func (a *Answer) points(from, to string) (out []int) {
	for i := range a.Edges {
		if e := &a.Edges[i]; e.Key.Source.Name == from && e.Key.Destination.Name == to {
			if out == nil {
				out = make([]int, len(e.Points))
			}
			for j, p := range e.Points {
				if p == nil {
					out[j]--
				} else {
					out[j] += int(p.Requests())
				}
			}
		}
	}
	return out
}

func repeat(n, value int) []int { return slices.Repeat([]int{value}, n) }

// gaps are the gaps as text, in minutes after the epoch.
func (a *Answer) gaps() (out []string) {
	for _, g := range a.Gaps {
		out = append(out, strings.TrimSpace(g.Start.Sub(epoch).String()+" "+g.End.Sub(epoch).String()+" "+strings.Join(g.Nodes, " ")))
	}
	return out
}

func (f *fleet) expect(t *testing.T, what string, a *Answer, web, cron []int, gaps ...string) {
	t.Helper()
	for name, want := range map[string][]int{"web": web, "cron": cron} {
		if diff := cmp.Diff(want, a.points(name, "db")); diff != "" {
			t.Errorf("%s: %s > db (-want +got):\n%s", what, name, diff)
		}
	}
	if diff := cmp.Diff(gaps, a.gaps()); diff != "" {
		t.Errorf("%s: gaps (-want +got):\n%s", what, diff)
	}
}

func TestCollector(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t)
		after(10 * time.Minute)
		var before, asked int
		f.set("a", func(n *node) { before = n.asked })
		after(20 * time.Minute)
		if f.set("a", func(n *node) { asked = n.asked - before }); asked != 2*10 {
			t.Errorf("an agent was asked %d times in 10 minutes, want twice a minute", asked)
		}
		for _, side := range []mesh.Direction{mesh.Outbound, mesh.Inbound} {
			a := f.ask(20*time.Minute, Minute, side)
			f.expect(t, side.String(), a, repeat(20, 60), repeat(20, 60))
			latency := 5 * time.Millisecond
			if side == mesh.Inbound {
				latency = 3 * time.Millisecond
			}
			for _, e := range a.Edges {
				if got := e.Points[3].Latency.Quantile(0.5); e.Key.Source.Name == "web" && histogram.BucketOf(got) != histogram.BucketOf(latency) {
					t.Errorf("%v: median %v, want %v: that of this side", side, got, latency)
				}
			}
			if a.Covered != 20*time.Minute || a.Asked != 2 || len(a.Edges) != 2 {
				t.Errorf("%v: covered %v, asked %d, %d edges; want 20m0s, 2, 2", side, a.Covered, a.Asked, len(a.Edges))
			}
		}
	})
}

// TestAway: who was away for less time than agents remember leaves no gap.
func TestAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t)
		after(10 * time.Minute)
		f.set("b", func(n *node) { n.down = true })
		after(20 * time.Minute)
		a := f.ask(20*time.Minute, Minute, mesh.Outbound)
		f.expect(t, "while it is away", a, repeat(20, 60), append(repeat(10, 60), repeat(10, -1)...), "10m0s 20m0s b")
		f.set("b", func(n *node) { n.down = false })
		after(21 * time.Minute)
		f.stop()
		after(31 * time.Minute)
		f.start()
		after(35 * time.Minute)
		f.expect(t, "all are back", f.ask(35*time.Minute, Minute, mesh.Outbound), repeat(35, 60), repeat(35, 60))
		if f.log.Len() > 0 {
			t.Error(f.log.String())
		}
	})
}

// TestLongAway: what was not collected is a gap, and no traffic of nothing. What others
// know of the calls of a silent agent counts.
func TestLongAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t)
		after(10 * time.Minute)
		f.set("b", func(n *node) { n.down = true })
		after(40 * time.Minute)
		f.set("b", func(n *node) { n.down = false })
		after(60 * time.Minute)
		f.stop()
		after(90 * time.Minute)
		f.start()
		after(100 * time.Minute)
		// Thirteen minutes are asked for again: 28 to 40 of b, 77 to 89 of both.
		web, cron := slices.Concat(repeat(60, 60), repeat(17, -1), repeat(23, 60)), slices.Concat(repeat(10, 60), repeat(18, -1), repeat(32, 60), repeat(17, -1), repeat(23, 60))
		for _, side := range []mesh.Direction{mesh.Outbound, mesh.Inbound} {
			a := f.ask(100*time.Minute, Minute, side)
			f.expect(t, side.String(), a, web, cron, "10m0s 28m0s b", "1h0m0s 1h17m0s")
			if diff := cmp.Diff([]Silence{{"b", 18 * time.Minute}}, a.Silent); diff != "" || a.Covered != 83*time.Minute {
				t.Errorf("covered %v, silent (-want +got):\n%s", a.Covered, diff)
			}
		}
	})
}

// TestRestartedAgent forgets what it has not told yet.
func TestRestartedAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t)
		after(10*time.Minute + 20*time.Second)
		f.restart("b")
		after(30 * time.Minute)
		f.expect(t, "", f.ask(30*time.Minute, Minute, mesh.Inbound), repeat(30, 60), slices.Concat(repeat(10, 60), repeat(1, -1), repeat(19, 60)), "10m0s 11m0s b")
	})
}

// TestOtherClock: an agent whose clock is wrong counts in the right minutes, within the
// ten seconds of its windows.
func TestOtherClock(t *testing.T) {
	for _, ahead := range []time.Duration{time.Second, -37 * time.Second, 5 * time.Minute, -5 * time.Minute, 3 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			f := newFleet(t)
			f.set("b", func(n *node) { n.clock = ahead })
			f.restart("b")
			after(30 * time.Minute)
			points := f.ask(30*time.Minute, Minute, mesh.Inbound).points("cron", "db")
			if diff := cmp.Diff(repeat(26, 60), points[2:28]); diff != "" {
				t.Errorf("%v ahead (-want +got):\n%s", ahead, diff)
			}
		})
	}
}

// TestAgentsThatLie: what makes no sense counts as no answer.
func TestAgentsThatLie(t *testing.T) {
	for name, change := range map[string]func(*agentv1.FiguresResponse){
		"another time": func(m *agentv1.FiguresResponse) { m.Start = timestamppb.New(epoch.Add(-time.Hour)) },
		"other steps":  func(m *agentv1.FiguresResponse) { m.Step = durationpb.New(time.Hour) },
		"no message":   func(m *agentv1.FiguresResponse) { *m = agentv1.FiguresResponse{} },
	} {
		synctest.Test(t, func(t *testing.T) {
			f := newFleet(t)
			f.set("b", func(n *node) { n.change = change })
			after(20 * time.Minute)
			f.expect(t, name, f.ask(20*time.Minute, Minute, mesh.Outbound), repeat(20, 60), nil, "0s 20m0s b")
		})
	}
}

// TestManyNames: an agent that makes up names takes an eighth of the room.
func TestManyNames(t *testing.T) {
	s := NewStore(1 << 20) // 436 edges
	m := minuteOf(epoch)
	for i := range int64(20) {
		var edges []figures.Edge
		for j := range 200 {
			edges = append(edges, edgeOf(key("evil", strings.Repeat("x", int(i))+string(rune('a'+j)), mesh.Outbound), requests(1, 0, time.Millisecond)))
		}
		s.begin(m+i, []string{"node-1", "node-2"})
		p := pending{}
		s.answered(p, "node-1", m+i, 1, 0, edges)
		s.answered(p, "node-2", m+i, 1, 0, []figures.Edge{edgeOf(key("good", string(rune('a'+i)), mesh.Outbound), requests(1, 0, time.Millisecond))})
		s.commit(p)
		s.finish(m + i)
	}
	a := s.Query(Query{Start: epoch, End: epoch.Add(20 * time.Minute), Group: everything})
	good, made, evil, other := 0, 0, uint64(0), uint64(0)
	for _, e := range a.Edges {
		switch {
		case e.Key.Source.Name == "good":
			good++
		case e.Key.Destination.Kind == figures.KindOther:
			other += e.Points[0].Requests()
		default:
			made++
			evil += e.Points[0].Requests()
		}
	}
	if good != 20 || made != 436/8 || other != 4000-evil || a.Folded != other {
		t.Errorf("%d good edges, %d made up, %d requests to others, folded %d; want 20, 54 and the rest of 4000", good, made, other, a.Folded)
	}
	if n := len(s.names.ends); n > 100 {
		t.Errorf("%d names are kept, want those of the edges", n)
	}
}

// TestSmallBudget: first the fine steps go, then the oldest ones.
func TestSmallBudget(t *testing.T) {
	withoutRaceDetector(t)
	edges := traffic(200, 100)
	s := NewStore(1 << 20)
	m := minuteOf(epoch)
	for i := range int64(24 * 60) {
		s.minute(m+i, edges[i%4]...)
		if size := s.Stats().Bytes; size > 1<<20 {
			t.Fatalf("minute %d: %d bytes, want at most %d", i, size, 1<<20)
		}
	}
	now := epoch.Add(24 * time.Hour)
	a := s.Query(Query{Start: epoch, End: now, Group: everything})
	stats := s.Stats()
	if a.Trimmed.IsZero() || !a.Since.Equal(stats.Since) || a.Trimmed.After(a.Since) || now.Sub(a.Since) < 5*time.Hour {
		t.Errorf("since %v, trimmed %v; want some hours, and to be told", a.Since, a.Trimmed)
	}
	if a := s.Query(Query{Start: now.Add(-10 * time.Minute), End: now, Step: Minute, Group: everything}); a.Step != Minute || len(a.Gaps) > 0 {
		t.Errorf("the last minutes have steps of %v, gaps %v", a.Step, a.Gaps)
	}
}

// TestClockSetBack: what was kept for times that are to come goes.
func TestClockSetBack(t *testing.T) {
	s := NewStore(0)
	m := minuteOf(epoch)
	for i := range int64(60) {
		s.minute(m+i, edgeOf(key("web", "db", mesh.Outbound), requests(1, 0, time.Millisecond)))
	}
	for i := range int64(5) {
		s.minute(m+10+i, edgeOf(key("web", "db", mesh.Outbound), requests(100, 0, time.Millisecond)))
	}
	a := s.Query(Query{Start: epoch, End: epoch.Add(time.Hour), Group: everything})
	if n := a.Edges[0].Total().Requests(); n != 510 || a.Covered != 15*time.Minute {
		t.Errorf("%d requests in %v, want 510 in 15m0s", n, a.Covered)
	}
}

func TestFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "history")
	s := NewStore(0)
	m := minuteOf(epoch)
	for i := range int64(8 * 60) {
		s.minute(m+i, edgeOf(key("web", "db", mesh.Outbound), requests(uint64(i), 1, time.Millisecond)), edgeOf(key("web", "db", mesh.Inbound), requests(1, 0, time.Millisecond)))
	}
	now := epoch.Add(8 * time.Hour)
	if err := s.Save(path); err != nil {
		t.Fatal(err)
	}
	q := Query{Start: epoch, End: now, Step: 10 * time.Minute, Group: everything}
	again := NewStore(0)
	if err := again.Load(path, now); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(s.Query(q), again.Query(q), buckets); diff != "" {
		t.Error("(-want +got):", diff)
	}
	again.minute(m+8*60, edgeOf(key("web", "cron", mesh.Outbound), requests(1, 0, time.Millisecond)))
	if a := again.Query(Query{Start: epoch, End: now.Add(Minute), Group: everything}); len(a.Edges) != 3 || len(a.Gaps) != 0 {
		t.Errorf("then: %d edges, gaps %v; want 3 without gaps", len(a.Edges), a.Gaps)
	}
	late := NewStore(0)
	if err := late.Load(path, now.Add(30*time.Hour)); err != nil || late.Stats().Edges != 0 || !late.Stats().Since.IsZero() {
		t.Errorf("30 hours later: %v, %+v, want nothing", err, late.Stats())
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v, want mode 0600: it has the names of all workloads", info.Mode(), err)
	}
	flipped := slices.Clone(data)
	flipped[len(data)/2] ^= 1
	newer := slices.Clone(data)
	newer[len(magic)+1]++
	for name, content := range map[string][]byte{
		"empty": {}, "short": data[:20], "cut": data[:len(data)-1], "flipped": flipped, "newer": newer, "other": []byte(strings.Repeat("x", 100)),
	} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		var log strings.Builder
		c := &Collector{Store: NewStore(0), File: path, Log: slog.New(slog.NewTextHandler(io.MultiWriter(&log), nil))}
		c.load(now)
		kept, err := os.ReadFile(path + ".broken")
		if !slices.Equal(kept, content) || err != nil || !strings.Contains(log.String(), "begins anew") {
			t.Errorf("%s: %d bytes set aside, %v, log %s; want all of it, and a line that says so", name, len(kept), err, log.String())
		}
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s: the file is still there", name)
		}
	}
	// A volume that cannot be written to.
	log := strings.Builder{}
	c := &Collector{Store: s, File: filepath.Join(dir, "no", "history"), Log: slog.New(slog.NewTextHandler(&log, nil)), writes: true}
	if c.save(); !strings.Contains(log.String(), "volume") {
		t.Errorf("log %q, want what is wrong", log.String())
	}
}

// FuzzRestore reads files whose checksum is right, and answers a query from them.
func FuzzRestore(f *testing.F) {
	s := NewStore(0)
	for i := range int64(12) {
		s.minute(minuteOf(epoch)+i, edgeOf(key("web", "db", mesh.Outbound), requests(100, 1, time.Millisecond)))
	}
	for _, st := range s.steps[:2] {
		f.Add(st.blocks[0].data, st.start, st.length, 0)
	}
	f.Fuzz(func(t *testing.T, block []byte, start, length int64, number int) {
		s := NewStore(1 << 20)
		in := &saved{
			Edges: []savedEdge{{Number: number, Key: key("web", "db", mesh.Outbound), Last: start}},
			Steps: []savedStep{{Start: start, Length: length, Covered: 1, Blocks: [][]byte{block}}},
		}
		if s.take(in, start+length) != nil {
			return
		}
		s.complete = start + length
		s.Query(Query{Start: at(start), End: at(start + length), Step: Minute, Group: everything})
		s.minute(start+length, edgeOf(key("web", "db", mesh.Outbound), requests(100, 1, time.Millisecond)))
	})
}
