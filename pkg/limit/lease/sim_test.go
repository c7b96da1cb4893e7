package lease

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
)

const tick = 10 * time.Millisecond

// heard is how long the Ledger takes to lend a share to a node that is new to a bucket.
const heard = 300 * time.Millisecond

// world is a Ledger with agents. Messages take time, and the clocks of all differ.
type world struct {
	t      *testing.T
	random *rand.Rand
	now    time.Duration
	ledger *Ledger // nil: the controller is away
	limit  Limit
	agents []*agent
	// admitted are the requests that were let in, in each tick.
	admitted []int
	wanted   int
}

type agent struct {
	name     string
	skew     time.Duration
	table    *Table
	pool     *Pool
	reporter *Reporter
	session  *Session
	cut      bool // from the controller
	rate     float64
	due      float64 // requests that are to come
	next     time.Duration
	soon     bool

	up   []delayed[Report]
	down []delayed[Leases]

	got, asked int
}

type delayed[M any] struct {
	at time.Duration
	m  M
}

func newWorld(t *testing.T, seed uint64, nodes int, rate, burst float64) *world {
	w := &world{t: t, random: rand.New(rand.NewPCG(seed, 7)), now: time.Hour, limit: Limit{Name: "shop/p/1", Rate: rate, Burst: burst, Nodes: nodes}}
	for i := range nodes {
		a := &agent{name: fmt.Sprint("node-", i), skew: time.Duration(w.random.IntN(1000)) * time.Hour, table: NewTable()}
		a.pool = a.table.Pool(w.limit)
		w.agents = append(w.agents, a)
	}
	w.start()
	return w
}

// start begins a new controller.
func (w *world) start() {
	w.ledger = NewLedger(w.now)
	nodes := map[string]struct{}{}
	for _, a := range w.agents {
		nodes[a.name] = struct{}{}
	}
	w.ledger.Set(map[string]Shared{w.limit.Name: {Rate: w.limit.Rate, Nodes: nodes, Of: w.limit.Nodes}})
}

// stop takes the controller away.
func (w *world) stop() {
	w.ledger = nil
	for _, a := range w.agents {
		a.disconnect()
	}
}

func (a *agent) disconnect() {
	if a.session != nil {
		a.session.Close()
	}
	a.session, a.reporter, a.up, a.down = nil, nil, nil, nil
}

func (w *world) delay() time.Duration { return time.Duration(w.random.IntN(30)) * time.Millisecond }

// run lets time pass.
func (w *world) run(how time.Duration) {
	for end := w.now + how; w.now < end; w.now += tick {
		if w.ledger != nil && w.now%SettleEvery == 0 {
			w.ledger.Settle(w.now)
		}
		n := 0
		for _, a := range w.agents {
			n += w.step(a)
		}
		w.admitted = append(w.admitted, n)
		w.check()
	}
}

// check fails if the rates in force add up to more than that of the limit. It leaves out nodes
// that the Ledger may not have heard of yet.
func (w *world) check() {
	sum := 0.0
	for _, a := range w.agents {
		for _, b := range a.table.ids {
			own := w.now + a.skew
			if rate := a.pool.inForce(own, b.lent); own-b.made > TTL {
				sum += rate
			}
		}
	}
	if sum > w.limit.Rate*1.001 {
		w.t.Fatalf("after %v the rates add up to %.1f, want %v at most", w.now-time.Hour, sum, w.limit.Rate)
	}
}

func (w *world) step(a *agent) (admitted int) {
	own := w.now + a.skew
	if a.cut || w.ledger == nil {
		if a.session != nil {
			a.disconnect()
		}
	} else if a.session == nil {
		a.session, a.reporter = w.ledger.Connect(w.now, a.name), a.table.Reporter()
		a.next = own
	}
	if a.session != nil {
		select {
		case <-a.table.Wake():
			a.soon = true
		default:
		}
		if own >= a.next || a.soon {
			r, more := a.reporter.Report(own)
			a.up = append(a.up, delayed[Report]{w.now + w.delay(), r})
			if a.soon = more; own >= a.next {
				a.next = own + Every
			}
		}
		for len(a.up) > 0 && a.up[0].at <= w.now {
			if err := a.session.Report(w.now, a.up[0].m); err != nil {
				w.t.Fatalf("%s: %v", a.name, err)
			}
			a.up = a.up[1:]
		}
		if m, ok := a.session.Leases(w.now); ok {
			a.down = append(a.down, delayed[Leases]{w.now + w.delay(), m})
		}
		for len(a.down) > 0 && a.down[0].at <= w.now {
			a.soon = a.reporter.Apply(own, a.down[0].m) || a.soon
			a.down = a.down[1:]
		}
	}
	var v Value
	v.Add("alice")
	for a.due += a.rate * tick.Seconds() * 2 * w.random.Float64(); a.due >= 1; a.due-- {
		a.asked++
		w.wanted++
		if a.pool.Take(own, mesh.Identity{}, &v) != nil {
			a.got++
			admitted++
		}
	}
	return admitted
}

// worst returns the most that was let in above the limit's rate, in any time.
func (w *world) worst() float64 {
	// The greatest sum of a run of (admitted - rate).
	sum, worst := 0.0, 0.0
	for _, n := range w.admitted {
		sum = max(sum, 0) + float64(n) - w.limit.Rate*tick.Seconds()
		worst = max(worst, sum)
	}
	return worst
}

// bound is that of the package comment, for nodes that come anew to the bucket anew times, and
// are not heard of for first.
func (w *world) bound(anew int, first time.Duration) float64 {
	n := float64(w.limit.Nodes)
	return w.limit.Burst + float64(anew)*(w.limit.Burst/n+w.limit.Rate/n*first.Seconds()+1)
}

// TestBound plays many nodes with random demand, restarts of the controller and cut nodes:
// what is let in stays within the stated bound.
func TestBound(t *testing.T) {
	const nodes = 50
	for seed := range uint64(4) {
		w := newWorld(t, seed, nodes, 500, 500)
		for range 40 {
			for _, a := range w.agents {
				switch w.random.IntN(4) {
				case 0:
					a.rate = 0
				case 1:
					a.rate = 5
				case 2:
					a.rate = math.Exp(w.random.Float64() * 7)
				}
				a.cut = w.random.IntN(10) == 0
			}
			if seed%2 == 1 {
				switch w.random.IntN(6) {
				case 0:
					w.stop()
				case 1:
					w.stop()
					w.start()
				case 2, 3:
					if w.ledger == nil {
						w.start()
					}
				}
			}
			w.run(time.Duration(500+w.random.IntN(5000)) * time.Millisecond)
		}
		got, bound := w.worst(), w.bound(nodes, TTL)
		total := 0
		for _, n := range w.admitted {
			total += n
		}
		took := float64(len(w.admitted)) * tick.Seconds()
		t.Logf("seed %d: %.0f s, let in %d of %d, %.3f of the rate; at worst %.0f above it, bound %.0f", seed, took, total, w.wanted, float64(total)/took/w.limit.Rate, got, bound)
		if got > bound {
			t.Errorf("seed %d: %.0f requests above the rate, want at most %.0f", seed, got, bound)
		}
	}
}

// TestLends: a busy node gets what a quiet one does not use, and the quiet one gets all that it
// asks for.
func TestLends(t *testing.T) {
	w := newWorld(t, 1, 2, 50, 50)
	busy, quiet := w.agents[0], w.agents[1]
	busy.rate, quiet.rate = 200, 5
	w.run(20 * time.Second)
	if got := float64(busy.got) / 20; got < 38 {
		t.Errorf("the busy node: %.1f a second, want 40 about", got)
	}
	if quiet.got < quiet.asked*9/10 {
		t.Errorf("the quiet node: %d of %d, want nearly all", quiet.got, quiet.asked)
	}
	if got, bound := w.worst(), w.bound(2, heard); got > bound {
		t.Errorf("%.0f above the rate, want at most %.0f", got, bound)
	}
	// They change places.
	busy.rate, quiet.rate = 5, 200
	before := quiet.got
	w.run(10 * time.Second)
	if got := float64(quiet.got-before) / 10; got < 30 {
		t.Errorf("the node that became busy: %.1f a second, want 36 about", got)
	}
	// Both are busy.
	busy.rate = 200
	a, b := busy.got, quiet.got
	w.run(10 * time.Second)
	if a, b = busy.got-a, quiet.got-b; a < 200 || b < 200 {
		t.Errorf("both busy: %d and %d in 10 s, want 250 about each", a, b)
	}
}

// TestAway: without a controller each node has its part, and with a new one they share again.
func TestAway(t *testing.T) {
	w := newWorld(t, 2, 4, 80, 80)
	w.agents[0].rate = 300
	w.run(10 * time.Second)
	at := func() int { return w.agents[0].got }
	before := at()
	w.run(5 * time.Second)
	if got := at() - before; got < 350 {
		t.Errorf("alone: %d in 5 s, want 400 about", got)
	}
	w.stop()
	w.run(5 * time.Second)
	for _, a := range w.agents {
		a.rate = 300
	}
	w.run(10 * time.Second)
	before = at()
	w.run(5 * time.Second)
	if got := at() - before; got < 90 || got > 110 {
		t.Errorf("without a controller: %d in 5 s, want a quarter, 100", got)
	}
	for _, a := range w.agents[1:] {
		a.rate = 0
	}
	w.start()
	w.run(15 * time.Second)
	before = at()
	w.run(5 * time.Second)
	if got := at() - before; got < 350 {
		t.Errorf("with a new controller: %d in 5 s, want 400 about", got)
	}
	if got, bound := w.worst(), w.bound(4, TTL); got > bound {
		t.Errorf("%.0f above the rate, want at most %.0f", got, bound)
	}
}

// TestWorst is the worst case of the bound: a node has the whole rate and the whole burst, and
// uses them when all others come.
func TestWorst(t *testing.T) {
	w := newWorld(t, 3, 10, 100, 100)
	w.agents[0].rate = 1
	w.run(20 * time.Second)
	for _, a := range w.agents {
		a.rate = 1000
	}
	w.run(10 * time.Second)
	got, bound := w.worst(), w.bound(10, heard)
	t.Logf("%.0f above the rate, bound %.0f", got, bound)
	if got > bound {
		t.Errorf("%.0f above the rate, want at most %.0f", got, bound)
	}
	if got < 1.5*w.limit.Burst {
		t.Errorf("%.0f above the rate: this is not the worst case", got)
	}
}

// TestFull: nearly the whole rate is used where there is demand for it.
func TestFull(t *testing.T) {
	w := newWorld(t, 4, 50, 500, 500)
	for _, a := range w.agents {
		a.rate = []float64{0, 1, 5, 20, 200}[w.random.IntN(5)]
	}
	w.run(20 * time.Second)
	from := len(w.admitted)
	w.run(10 * time.Second)
	total := 0
	for _, n := range w.admitted[from:] {
		total += n
	}
	if share := float64(total) / 10 / w.limit.Rate; share < 0.85 || share > 1.01 {
		t.Errorf("%.3f of the rate is used, want 0.9 about", share)
	}
}
