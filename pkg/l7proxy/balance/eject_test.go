package balance

import (
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func ejector(t testing.TB, p EjectPolicy) *Ejector {
	t.Helper()
	if p.MinBackoff == 0 {
		p.MinBackoff, p.MaxBackoff = time.Second, 10*time.Second
	}
	e := new(Ejector)
	if err := e.Set(p); err != nil {
		t.Fatal(err)
	}
	return e
}

func resultOf(ok bool) Result {
	if ok {
		return Success
	}
	return Failure
}

// report begins and ends a request.
func report(t *testing.T, o *Outlier, now time.Duration, ok bool) Change {
	t.Helper()
	admitted, trial := o.Begin(now)
	if !admitted {
		t.Fatalf("not admitted at %v", now)
	}
	return o.Report(Report{Now: now, Began: now, Result: resultOf(ok), Trial: trial, Endpoints: 10})
}

func TestConsecutiveFailures(t *testing.T) {
	e := ejector(t, EjectPolicy{Failures: 3})
	o := e.Outlier()
	now := time.Minute
	for _, ok := range []bool{false, false, true, false, false} {
		if c := report(t, o, now, ok); c != Unchanged {
			t.Fatalf("changed (%d) before three failures in a row", c)
		}
	}
	_, late := o.Begin(now) // still in flight when the endpoint is ejected
	if c := report(t, o, now, false); c != Ejected || e.Ejected() != 1 {
		t.Fatalf("three failures: %d, %d out", c, e.Ejected())
	}
	if o.MayPick(now) || o.MayPick(now+time.Second-1) {
		t.Error("admitted while it is out")
	}
	if c := o.Report(Report{Now: now, Result: Success, Trial: late, Endpoints: 10}); c != Unchanged || o.MayPick(now) {
		t.Error("a request from before brought it back")
	}
	// The trial: one request, and no second one until it ends.
	now += time.Second
	if !o.MayPick(now) {
		t.Fatal("not admitted after its time")
	}
	ok, trial := o.Begin(now)
	if !ok || !trial || o.MayPick(now) {
		t.Fatalf("trial: admitted %v, trial %v, and others %v", ok, trial, o.MayPick(now))
	}
	if again, _ := o.Begin(now); again {
		t.Error("two trials at a time")
	}
	if c := o.Report(Report{Now: now, Result: Success, Trial: trial, Endpoints: 10}); c != Readmitted || !o.MayPick(now) || e.Ejected() != 0 {
		t.Errorf("a good trial: got %d, %d out; want %d, 0 out", c, e.Ejected(), Readmitted)
	}
	if c := report(t, o, now, false); c != Unchanged {
		t.Error("the failures from before count after its return")
	}
}

func TestBackoffGrowsAndIsForgotten(t *testing.T) {
	e := ejector(t, EjectPolicy{Failures: 1})
	o := e.Outlier()
	now := time.Minute
	report(t, o, now, false)
	wait := func(want time.Duration) {
		t.Helper()
		if o.MayPick(now + want - 1) {
			t.Errorf("admitted before %v", want)
		}
		now += want
		if !o.MayPick(now) {
			t.Errorf("not admitted after %v", want)
		}
	}
	for _, want := range []time.Duration{1, 2, 4, 8, 10, 10} {
		wait(want * time.Second)
		report(t, o, now, false)
	}
	wait(10 * time.Second)
	report(t, o, now, true)
	// It fails again soon: the ejection is as long as before.
	now += time.Second
	report(t, o, now, false)
	wait(10 * time.Second)
	report(t, o, now, true)
	// It was healthy for long: the back-off starts anew.
	now += time.Minute
	if c := report(t, o, now, false); c != Ejected {
		t.Fatalf("got %d, want %d", c, Ejected)
	}
	wait(time.Second)
}

func TestLostTrial(t *testing.T) {
	e := ejector(t, EjectPolicy{Failures: 1})
	o := e.Outlier()
	now := time.Minute
	report(t, o, now, false)
	now += time.Second
	_, first := o.Begin(now)
	now += time.Second
	ok, second := o.Begin(now)
	if !ok || !second {
		t.Fatal("nothing was heard of the trial, and there is no second one")
	}
	if c := o.Report(Report{Now: now, Result: Success, Trial: second, Endpoints: 10}); c != Readmitted {
		t.Fatalf("the second trial: got %d, want %d", c, Readmitted)
	}
	if c := o.Report(Report{Now: now, Result: Success, Trial: first, Endpoints: 10}); c != Unchanged || e.Ejected() != 0 {
		t.Errorf("a late trial: got %d, %d out; want %d, 0 out", c, e.Ejected(), Unchanged)
	}
}

func TestSuccessRate(t *testing.T) {
	e := ejector(t, EjectPolicy{SuccessRate: 0.8, MinRequests: 20, Window: 10 * time.Second})
	now := time.Minute
	// Every tenth fails: the rate stays well above the limit.
	well := e.Outlier()
	for i := range 1000 {
		now += 10 * ms
		if c := report(t, well, now, i%10 != 0); c != Unchanged {
			t.Fatalf("request %d: %d at 90 %%", i, c)
		}
	}
	// Every third fails: never three consecutive ones, but the rate is too low.
	ill := e.Outlier()
	ejected := -1
	for i := range 100 {
		now += 10 * ms
		if report(t, ill, now, i%3 != 0) == Ejected {
			ejected = i
			break
		}
	}
	if ejected < 19 || ejected > 25 {
		t.Errorf("ejected at request %d, want soon after the twentieth", ejected)
	}
	// Few requests are no basis for a rate.
	rare := e.Outlier()
	for range 100 {
		now += 2 * time.Second
		if c := report(t, rare, now, false); c != Unchanged {
			t.Fatal("ejected for a rate of hardly any requests")
		}
	}
}

func TestFloor(t *testing.T) {
	const n = 4
	for _, result := range []Result{Failure, Unreachable} {
		e := ejector(t, EjectPolicy{Failures: 1})
		var all []*Outlier
		now := time.Minute
		changes := map[Change]int{}
		for range n {
			o := e.Outlier()
			all = append(all, o)
			changes[o.Report(Report{Now: now, Result: result, Endpoints: n})]++
		}
		if changes[Ejected]+changes[EjectedUnreachable] != 3 || changes[LastKept] != 1 || e.Ejected() != 3 {
			t.Errorf("got changes %v, %d out; want three ejected and one kept", changes, e.Ejected())
		}
		all[0].Forget()
		all[0].Forget()
		if e.Ejected() != 2 {
			t.Errorf("%d out after one of three was removed, want 2", e.Ejected())
		}
		if c := all[3].Report(Report{Now: now, Result: result, Endpoints: n}); c == LastKept {
			t.Errorf("after one was removed: got %d, want an ejection", c)
		}
		alone := e.Outlier()
		if c := alone.Report(Report{Now: now, Result: result, Endpoints: 1}); c != LastKept || !alone.MayPick(now) {
			t.Errorf("the only endpoint: got %d, want %d", c, LastKept)
		}
	}
}

// TestAway: one outcome ejects, the endpoint does not return with time, and the result
// of a request from before the ejection is ignored.
func TestAway(t *testing.T) {
	var e Ejector
	o := e.Outlier()
	now := time.Minute
	unreachable := Report{Now: now, Began: now, Result: Unreachable, Endpoints: 3}
	if c := o.Report(Report{Now: now, Result: Failure, Endpoints: 3}); c != Unchanged {
		t.Errorf("a failure without a policy: got %d, want %d", c, Unchanged)
	}
	if c := o.Report(Report{Now: now, Result: Unknown, Endpoints: 3}); c != Unchanged {
		t.Errorf("a client that goes away: got %d, want %d", c, Unchanged)
	}
	if c := o.Report(unreachable); c != EjectedUnreachable || e.Ejected() != 1 {
		t.Fatalf("unreachable: got %d, %d out; want %d, 1 out", c, e.Ejected(), EjectedUnreachable)
	}
	if c := o.Report(unreachable); c != Unchanged || e.Ejected() != 1 {
		t.Errorf("the second report: got %d, %d out; want %d, 1 out", c, e.Ejected(), Unchanged)
	}
	if o.MayPick(now+24*time.Hour) || o.Admitted() {
		t.Errorf("after a day: admitted %v, in %v; want false, false", o.MayPick(now+24*time.Hour), o.Admitted())
	}
	if c := o.Report(Report{Now: now + 1, Began: now - 1, Result: Success, Endpoints: 3}); c != Unchanged {
		t.Errorf("an answer to an earlier request: got %d, want %d", c, Unchanged)
	}
	if c := o.Report(Report{Now: now + 1, Began: now + 1, Result: Unknown, Endpoints: 3}); c != Unchanged {
		t.Errorf("a client that goes away: got %d, want %d", c, Unchanged)
	}
	if c := o.Report(Report{Now: now + 1, Began: now + 1, Result: Failure, Endpoints: 3}); c != Readmitted || !o.Admitted() || e.Ejected() != 0 {
		t.Errorf("it was reached: got %d, %d out; want %d, 0 out", c, e.Ejected(), Readmitted)
	}
	o.Report(unreachable)
	if c := o.Readmit(now + 2); c != Readmitted || !o.Admitted() || e.Ejected() != 0 {
		t.Errorf("Readmit: got %d, %d out; want %d, 0 out", c, e.Ejected(), Readmitted)
	}
	if c := o.Readmit(now + 2); c != Unchanged || e.Ejected() != 0 {
		t.Errorf("Readmit again: got %d, %d out; want %d, 0 out", c, e.Ejected(), Unchanged)
	}
}

// TestAwayAndFailing: an endpoint that was ejected for failures and then cannot be
// reached counts once.
func TestAwayAndFailing(t *testing.T) {
	e := ejector(t, EjectPolicy{Failures: 1})
	o := e.Outlier()
	now := time.Minute
	report(t, o, now, false)
	now += 2 * time.Second
	_, trial := o.Begin(now)
	if c := o.Report(Report{Now: now, Began: now, Trial: trial, Result: Unreachable, Endpoints: 3}); c != EjectedUnreachable || e.Ejected() != 1 {
		t.Errorf("unreachable: got %d, %d out; want %d, 1 out", c, e.Ejected(), EjectedUnreachable)
	}
	if c := o.Readmit(now); c != Readmitted || e.Ejected() != 0 {
		t.Errorf("Readmit: got %d, %d out; want %d, 0 out", c, e.Ejected(), Readmitted)
	}
}

// TestEjectRandomly checks the invariants under random reports: the number of ejected
// endpoints is the number of closed gates, and one endpoint always stays in.
func TestEjectRandomly(t *testing.T) {
	random := rand.New(rand.NewPCG(11, 12))
	e := ejector(t, EjectPolicy{
		Failures: 2, SuccessRate: 0.5, MinRequests: 5, Window: time.Second,
		MinBackoff: 10 * ms, MaxBackoff: 100 * ms,
	})
	const n = 8
	type request struct {
		o     *Outlier
		trial bool
		began time.Duration
	}
	all := make([]*Outlier, n)
	for i := range all {
		all[i] = e.Outlier()
	}
	var open []request
	now := time.Second
	for range 100_000 {
		now += time.Duration(random.Int64N(int64(2 * ms)))
		switch i := random.IntN(n); random.IntN(20) {
		case 0:
			all[i].Forget()
			all[i] = e.Outlier()
		case 10:
			all[i].Readmit(now)
		case 1, 2, 3, 4, 5, 6, 7, 8, 9:
			admits := all[i].MayPick(now)
			ok, trial := all[i].Begin(now)
			if ok != admits {
				t.Fatalf("MayPick %v, Begin %v", admits, ok)
			}
			if ok {
				open = append(open, request{all[i], trial, now})
			}
		default:
			if len(open) > 0 {
				i := random.IntN(len(open))
				r := open[i]
				open[i] = open[len(open)-1]
				open = open[:len(open)-1]
				r.o.Report(Report{
					Now: now, Began: r.began, Result: Result(random.IntN(4)), Trial: r.trial,
					Endpoints: n, Random: random.Uint64(),
				})
			}
		}
		closed := 0
		for _, o := range all {
			if o.gate.Load() != 0 {
				closed++
			}
		}
		if closed != e.Ejected() || closed > n-1 {
			t.Fatalf("%d gates are closed, %d counted, at most all but one allowed", closed, e.Ejected())
		}
	}
}

func TestEjectConcurrently(t *testing.T) {
	e := ejector(t, EjectPolicy{Failures: 1, MinBackoff: 1, MaxBackoff: 1})
	outliers := []*Outlier{e.Outlier(), e.Outlier(), e.Outlier(), e.Outlier()}
	var clock atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 5000 {
				o := outliers[rand.IntN(4)]
				now := time.Duration(clock.Add(1))
				if ok, trial := o.Begin(now); ok {
					o.Report(Report{Now: now, Began: now, Result: resultOf(rand.IntN(2) == 0), Trial: trial, Endpoints: 4, Random: rand.Uint64()})
				}
				if out := e.Ejected(); out < 0 || out > 3 {
					t.Errorf("%d of 4 out, want 0 to 3", out)
				}
			}
		})
	}
	wg.Wait()
}

func TestRefusedEjectPolicies(t *testing.T) {
	fine := EjectPolicy{Failures: 1, MinBackoff: 1, MaxBackoff: 1}
	for name, change := range map[string]func(*EjectPolicy){
		"failures":    func(p *EjectPolicy) { p.Failures = -1 },
		"rate":        func(p *EjectPolicy) { p.SuccessRate = 1.1 },
		"window":      func(p *EjectPolicy) { p.SuccessRate, p.MinRequests = 0.5, 5 },
		"few":         func(p *EjectPolicy) { p.SuccessRate, p.Window = 0.5, 5 },
		"no back-off": func(p *EjectPolicy) { p.MinBackoff = 0 },
		"max below":   func(p *EjectPolicy) { p.MinBackoff = 2 },
		"no number":   func(p *EjectPolicy) { p.SuccessRate = math.NaN() },
	} {
		p := fine
		change(&p)
		if new(Ejector).Set(p) == nil {
			t.Errorf("%s: got no error, want one", name)
		}
	}
	o := ejector(t, fine).Outlier()
	if o.MayPick(0) != true {
		t.Error("a new endpoint is not admitted")
	}
	_ = o.Report(Report{Now: 1, Result: Failure, Endpoints: math.MaxInt32, Random: math.MaxUint64})
}

func BenchmarkReport(b *testing.B) {
	o := ejector(b, EjectPolicy{Failures: 5, SuccessRate: 0.8, MinRequests: 20, Window: time.Second}).Outlier()
	now := time.Duration(1)
	for b.Loop() {
		now += 1000
		_, trial := o.Begin(now)
		o.Report(Report{Now: now, Began: now, Result: Success, Trial: trial, Endpoints: 5})
	}
}
