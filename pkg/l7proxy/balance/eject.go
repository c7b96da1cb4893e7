package balance

import (
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
)

// EjectPolicy sets when an endpoint whose answers are failures is ejected for a while.
// An endpoint that cannot be reached is ejected at once under every policy.
type EjectPolicy struct {
	Failures int // consecutive failures that eject; 0: they do not

	SuccessRate float64       // a lower rate ejects; 0: no rate does
	MinRequests float64       // requests that the rate must be based on
	Window      time.Duration // after it, about two thirds of the old requests have faded

	MinBackoff, MaxBackoff time.Duration // of the first ejection, and the most that repeated ejections reach
}

// PolicyOf returns the policy that a Service asks for; nil asks for none.
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

// counts reports whether failures can eject an endpoint.
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

// Ejector ejects endpoints of one service port. Times are positive durations since a
// fixed moment, from a clock that never goes back. The zero value is ready to use, and
// does not count failures.
type Ejector struct {
	policy atomic.Pointer[EjectPolicy]
	out    atomic.Int64 // ejected endpoints, including those on trial
}

// Set checks p and puts it into force.
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

// Outlier is the state of one endpoint: admitted, ejected until a time, on trial with one
// request, or ejected until Readmit. It is safe for concurrent use.
type Outlier struct {
	of *Ejector
	// gate is the time from which one request may try the endpoint. It is 0 while the
	// endpoint is admitted, and never while it cannot be reached.
	gate atomic.Int64

	mu          sync.Mutex
	row         int     // consecutive failures
	good, total float64 // requests, which fade with time
	last        time.Duration
	ejected     time.Duration // when it was ejected
	backoff     time.Duration // of the last ejection
	readmitted  time.Duration // when it was readmitted
	forgotten   bool
}

const never = math.MaxInt64

// Outlier makes the state of a new endpoint.
func (e *Ejector) Outlier() *Outlier { return &Outlier{of: e} }

// Admitted reports whether the endpoint is neither ejected nor on trial.
func (o *Outlier) Admitted() bool { return o.gate.Load() == 0 }

// MayPick reports whether the endpoint may be picked: it is admitted, or a trial may
// begin. It takes no lock.
func (o *Outlier) MayPick(now time.Duration) bool { return int64(now) >= o.gate.Load() }

// Begin gives the endpoint a request. ok is false if the endpoint may not get it,
// because another request has begun the trial meanwhile. Pass trial to Report.
func (o *Outlier) Begin(now time.Duration) (ok, trial bool) {
	for {
		gate := o.gate.Load()
		if gate == 0 {
			return true, false
		}
		if int64(now) < gate {
			return false, false
		}
		// If no report of the trial arrives, the next trial may begin after the
		// shortest back-off.
		again := now + max(o.of.now().MinBackoff, time.Second)
		if o.gate.CompareAndSwap(gate, int64(again)) {
			return true, true
		}
	}
}

// Change is the effect of a report on its endpoint.
type Change uint8

const (
	Unchanged          Change = iota
	Ejected                   // because its answers are failures
	EjectedUnreachable        // ejected because it cannot be reached
	Readmitted
	// LastKept: it should be ejected, but is the last one that is admitted.
	LastKept
)

// Report is how a request ended that Begin gave to the endpoint.
type Report struct {
	Now       time.Duration
	Began     time.Duration
	Trial     bool // as Begin said
	Result    Result
	Endpoints int    // of the service port now, ejected ones included
	Random    uint64 // spreads the times of readmission
}

// Report records how a request ended.
func (o *Outlier) Report(r Report) Change {
	p := o.of.now()
	if r.Result == Unknown || r.Result == Success && !p.counts() && o.Admitted() {
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
		return o.ejectUnreachable(r)
	case gate == never:
		if r.Began < o.ejected {
			return Unchanged // the request began before the ejection: its result is old
		}
		return o.readmit(r.Now)
	case gate != 0 && !r.Trial:
		return Unchanged
	case gate != 0 && ok:
		return o.readmit(r.Now)
	case gate != 0:
		o.eject(p, r)
		return Unchanged
	}
	// The endpoint is admitted, or this was a trial and another trial ended before it.
	o.count(p, r.Now, ok)
	if ok || !o.failing(p) {
		return Unchanged
	}
	if !o.of.reserve(r.Endpoints) {
		return LastKept
	}
	if o.backoff == 0 || r.Now-o.readmitted > o.backoff {
		o.backoff = 0 // it was healthy for long enough
	}
	o.eject(p, r)
	return Ejected
}

// ejectUnreachable ejects the endpoint until Readmit.
func (o *Outlier) ejectUnreachable(r Report) Change {
	gate := o.gate.Load()
	switch {
	case gate == never:
		return Unchanged
	case gate == 0 && !o.of.reserve(r.Endpoints):
		return LastKept
	}
	o.ejected = r.Now
	o.gate.Store(never)
	return EjectedUnreachable
}

// Readmit readmits an endpoint that could not be reached and can be reached again.
func (o *Outlier) Readmit(now time.Duration) Change {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.forgotten || o.gate.Load() != never {
		return Unchanged
	}
	return o.readmit(now)
}

func (o *Outlier) readmit(now time.Duration) Change {
	o.of.out.Add(-1)
	o.row, o.good, o.total, o.readmitted = 0, 0, 0, now
	o.gate.Store(0)
	return Readmitted
}

// eject ejects the endpoint for twice as long as the last time.
func (o *Outlier) eject(p *EjectPolicy, r Report) {
	o.ejected = r.Now
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

// reserve counts an ejection. It returns false if no admitted endpoint would be left.
func (e *Ejector) reserve(endpoints int) bool {
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

// Ejected is the number of endpoints that are ejected or on trial.
func (e *Ejector) Ejected() int { return int(e.out.Load()) }

// Forget ends the ejection of an endpoint that was removed or is no longer ready.
func (o *Outlier) Forget() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.forgotten && o.gate.Load() != 0 {
		o.of.out.Add(-1)
	}
	o.forgotten = true
	o.gate.Store(0)
}
