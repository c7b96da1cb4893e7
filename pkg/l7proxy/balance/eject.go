package balance

import (
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
)

// EjectPolicy says when an endpoint that answers with failures is taken out for
// a while. One that cannot be reached goes at once, whatever it says.
type EjectPolicy struct {
	Failures int // in a row; 0: not looked at

	SuccessRate float64       // an endpoint below it goes; 0: not looked at
	MinRequests float64       // for the rate to mean something
	Window      time.Duration // after which about two thirds of the past are forgotten

	MinBackoff, MaxBackoff time.Duration // of the first ejection, and of the last in a row
}

// PolicyOf is what a Service asks for; nil: nothing.
func PolicyOf(f *mesh.FailureAccrual) EjectPolicy {
	if f == nil {
		return EjectPolicy{}
	}
	return EjectPolicy{
		Failures:    f.Consecutive,
		SuccessRate: f.SuccessRate, MinRequests: float64(f.MinRequests), Window: f.Window,
		MinBackoff: f.MinPenalty, MaxBackoff: f.MaxPenalty,
	}
}

// counts reports whether failures matter.
func (p *EjectPolicy) counts() bool { return p.Failures > 0 || p.SuccessRate > 0 }

func (p *EjectPolicy) check() error {
	switch {
	case p.Failures < 0, !(p.SuccessRate >= 0 && p.SuccessRate <= 1):
		return fmt.Errorf("ejection: %d failures, success rate %v: out of range", p.Failures, p.SuccessRate)
	case p.SuccessRate > 0 && (p.Window <= 0 || p.MinRequests < 1):
		return fmt.Errorf("ejection: a success rate needs a window and a number of requests")
	case p.counts() && (p.MinBackoff <= 0 || p.MaxBackoff < p.MinBackoff):
		return fmt.Errorf("ejection: back-off from %v to %v", p.MinBackoff, p.MaxBackoff)
	}
	return nil
}

// Ejector ejects endpoints of one service port. Times count from any fixed
// moment, by a clock that never goes back, and are above zero. The zero value is
// ready: failures do not count.
type Ejector struct {
	policy atomic.Pointer[EjectPolicy]
	out    atomic.Int64 // endpoints that are out, those on trial among them
}

// Set checks p, which holds from now on.
func (e *Ejector) Set(p EjectPolicy) error {
	if err := p.check(); err != nil {
		return err
	}
	e.policy.Store(&p)
	return nil
}

var onlyUnreachable EjectPolicy

func (e *Ejector) now() *EjectPolicy {
	if p := e.policy.Load(); p != nil {
		return p
	}
	return &onlyUnreachable
}

// Outlier is the state of one endpoint: in, out until a time, on trial with one
// request, or away, until somebody says that it is back. It is safe for
// concurrent use.
type Outlier struct {
	of *Ejector
	// gate is 0 while the endpoint is in, away while it cannot be reached; else
	// the time from which one request may try it.
	gate atomic.Int64

	mu          sync.Mutex
	row         int     // failures in a row
	good, total float64 // requests, fading
	last        time.Duration
	left        time.Duration // when it was ejected
	backoff     time.Duration // of the last ejection
	returned    time.Duration // from it
	forgotten   bool
}

const away = math.MaxInt64

// Outlier makes the state of a new endpoint.
func (e *Ejector) Outlier() *Outlier { return &Outlier{of: e} }

// In reports whether the endpoint is in, and not on trial.
func (o *Outlier) In() bool { return o.gate.Load() == 0 }

// Admits reports whether the endpoint may be picked. It is cheap.
func (o *Outlier) Admits(now time.Duration) bool { return int64(now) >= o.gate.Load() }

// Begin gives the endpoint a request, and reports whether it may have it; not
// if another has begun the trial meanwhile. trial is for Report.
func (o *Outlier) Begin(now time.Duration) (ok, trial bool) {
	for {
		gate := o.gate.Load()
		if gate == 0 {
			return true, false
		}
		if int64(now) < gate {
			return false, false
		}
		// If nothing is heard of the trial, the next may come after the least
		// back-off.
		again := now + max(o.of.now().MinBackoff, time.Second)
		if o.gate.CompareAndSwap(gate, int64(again)) {
			return true, true
		}
	}
}

// Change is what a report did to an endpoint.
type Change uint8

const (
	Unchanged Change = iota
	Ejected          // its answers are failures
	Away             // it cannot be reached
	Returned
	// Kept: it should go, but it is the last one.
	Kept
)

// Report is how a request ended that Begin gave.
type Report struct {
	Now       time.Duration
	Began     time.Duration
	Trial     bool // as Begin said
	Result    Result
	Endpoints int    // that there are now, in and out
	Random    uint64 // spreads the returns
}

// Report takes in how a request ended.
func (o *Outlier) Report(r Report) Change {
	p := o.of.now()
	if r.Result == Unknown || r.Result == Success && !p.counts() && o.In() {
		return Unchanged
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	gate := o.gate.Load()
	ok := r.Result == Success || r.Result == Failure && !p.counts()
	switch {
	case o.forgotten:
		return Unchanged
	case r.Result == Unreachable:
		return o.leave(r)
	case gate == away:
		if r.Began < o.left {
			return Unchanged // begun before it was ejected: that is known
		}
		return o.comeBack(r.Now)
	case gate != 0 && !r.Trial:
		return Unchanged
	case gate != 0 && ok:
		return o.comeBack(r.Now)
	case gate != 0:
		o.eject(p, r)
		return Unchanged
	}
	// In, or a slow trial, and another one was quicker.
	o.count(p, r.Now, ok)
	if ok || !o.failing(p) {
		return Unchanged
	}
	if !o.of.place(r.Endpoints) {
		return Kept
	}
	if o.backoff == 0 || r.Now-o.returned > o.backoff {
		o.backoff = 0 // it was well for long enough
	}
	o.eject(p, r)
	return Ejected
}

// leave takes the endpoint out until it comes back.
func (o *Outlier) leave(r Report) Change {
	gate := o.gate.Load()
	switch {
	case gate == away:
		return Unchanged
	case gate == 0 && !o.of.place(r.Endpoints):
		return Kept
	}
	o.left = r.Now
	o.gate.Store(away)
	return Away
}

// Return ends the absence of an endpoint that could not be reached, and can be
// again.
func (o *Outlier) Return(now time.Duration) Change {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.forgotten || o.gate.Load() != away {
		return Unchanged
	}
	return o.comeBack(now)
}

func (o *Outlier) comeBack(now time.Duration) Change {
	o.of.out.Add(-1)
	o.row, o.good, o.total, o.returned = 0, 0, 0, now
	o.gate.Store(0)
	return Returned
}

// eject closes the gate, for twice as long as last time.
func (o *Outlier) eject(p *EjectPolicy, r Report) {
	o.left = r.Now
	o.backoff = min(max(2*o.backoff, p.MinBackoff), p.MaxBackoff)
	jitter := float64(o.backoff) / 4 * (float64(r.Random>>11) / (1 << 53))
	o.gate.Store(int64(r.Now + o.backoff + time.Duration(jitter)))
}

func (o *Outlier) count(p *EjectPolicy, now time.Duration, ok bool) {
	if ok {
		o.row = 0
	} else {
		o.row++
	}
	if p.SuccessRate == 0 {
		return
	}
	if now > o.last {
		fade := math.Exp(-float64(now-o.last) / float64(p.Window))
		o.good, o.total, o.last = o.good*fade, o.total*fade, now
	}
	o.total++
	if ok {
		o.good++
	}
}

func (o *Outlier) failing(p *EjectPolicy) bool {
	return p.Failures > 0 && o.row >= p.Failures ||
		p.SuccessRate > 0 && o.total >= p.MinRequests && o.good < p.SuccessRate*o.total
}

// place takes one of the places out there, if one is free: at least one endpoint
// stays in.
func (e *Ejector) place(endpoints int) bool {
	for {
		out := e.out.Load()
		if out >= int64(endpoints-1) {
			return false
		}
		if e.out.CompareAndSwap(out, out+1) {
			return true
		}
	}
}

// Out is the number of endpoints that are out.
func (e *Ejector) Out() int { return int(e.out.Load()) }

// Forget gives the endpoint's place back: it is no endpoint any more, or not
// ready.
func (o *Outlier) Forget() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.forgotten && o.gate.Load() != 0 {
		o.of.out.Add(-1)
	}
	o.forgotten = true
	o.gate.Store(0)
}
