package quota

import (
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of a Pace: the rate of requests that clients of a pod give up before their
// response begins. Each costs the proxy as much as any request, and the client next to
// nothing, because it does not wait for the response (rapid reset, CVE-2023-44487).
const (
	VainRate  = 5000 // a second
	VainBurst = 1000

	// agentSlack is how many times VainRate an agent may forward. It has held its clients
	// to VainRate, but requests also end by timeouts of routes, and what the network has
	// delayed arrives at once.
	agentSlack = 2

	startCost = 20 // how many requests the start of a session counts as, while its source waits
)

// Pace bounds the rate of something by making its cause wait: a leaky bucket of VainBurst
// that leaks VainRate a second. It is safe for concurrent use. The zero value is ready.
type Pace struct {
	empty atomic.Int64 // time at which the bucket is empty if nothing is added, nanoseconds
	slack int64        // how many times the rate and the burst are allowed; 0 is 1
}

func (p *Pace) drop() int64 { return int64(time.Second/VainRate) / max(1, p.slack) }

func (p *Pace) burst() int64 { return VainBurst * int64(time.Second/VainRate) }

// Add adds n at now, a time since any fixed moment, and returns how long the cause is
// to wait before it may go on: 0 while the bucket does not overflow. Those that wait at
// the same time wait for each other's turn.
func (p *Pace) Add(now time.Duration, n int) (wait time.Duration) {
	for {
		old := p.empty.Load()
		empty := max(old, int64(now)) + int64(n)*p.drop()
		if p.empty.CompareAndSwap(old, empty) {
			return max(0, time.Duration(empty-p.burst())-now)
		}
	}
}

// Wait is how long the cause has to wait at now.
func (p *Pace) Wait(now time.Duration) time.Duration {
	return max(0, time.Duration(p.empty.Load()-p.burst())-now)
}

func (p *Pace) idle(now time.Duration) bool { return p.empty.Load() <= int64(now) }

const (
	// maxPaces is how many sources have a Pace of their own. While so many are not idle,
	// further ones share one.
	maxPaces = 4096
	// sweepEvery is the least time between two searches for idle ones.
	sweepEvery = 10 * time.Millisecond
)

// Paces has a Pace for each source. It outlives the source's connections, so that a client
// that connects again does not begin anew. The zero value is ready. It is safe for
// concurrent use.
type Paces struct {
	mu       sync.Mutex
	bySource map[Source]*Pace
	rest     Pace
	swept    time.Duration
}

// Add counts n of the source, as Pace.Add does.
func (p *Paces) Add(source Source, now time.Duration, n int) (wait time.Duration) {
	if n == 0 {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.of(source, now).Add(now, n)
}

// AddUpTo counts n of the source, while a new session would wait for less than most. It is for what
// has no wait of its own, as the end of a connection: an honest client may end, too.
func (p *Paces) AddUpTo(source Source, now time.Duration, n int, most time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if one := p.of(source, now); one.Wait(now) < most {
		one.Add(now, n)
	}
}

// Start is how long a new session of the source has to wait at now. If it has to, it counts
// as startCost, so that the sessions that wait do not start at the same time.
func (p *Paces) Start(source Source, now time.Duration) (wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	one := p.bySource[source]
	if one == nil || one.Wait(now) == 0 {
		return 0
	}
	return one.Add(now, startCost)
}

func (p *Paces) of(source Source, now time.Duration) *Pace {
	one := p.bySource[source]
	if one != nil {
		return one
	}
	if len(p.bySource) >= maxPaces && (p.swept == 0 || now-p.swept > sweepEvery) {
		p.swept = now
		for source, one := range p.bySource {
			if one.idle(now) {
				delete(p.bySource, source)
			}
		}
	}
	if len(p.bySource) >= maxPaces {
		return &p.rest
	}
	if p.bySource == nil {
		p.bySource = make(map[Source]*Pace)
	}
	one = new(Pace)
	if source.agent() {
		one.slack = agentSlack
	}
	p.bySource[source] = one
	return one
}
