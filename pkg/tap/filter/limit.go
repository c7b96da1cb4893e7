package filter

import (
	"net/netip"
	"sync"
	"time"

	"github.com/underlane/underlane/pkg/tap"
)

// maxAdmitted bounds the memory of a limiter. It is the number of admitted
// requests and connections that have not ended. Above it, new ones are dropped.
const maxAdmitted = 1 << 14

// Limiter is a token bucket for whole requests and connections. It decides at
// the first event and then admits or drops all events of that request or
// connection. Its clock is the time of the events. It is safe for concurrent use.
type Limiter struct {
	rate, burst float64

	mu       sync.Mutex
	tokens   float64
	last     time.Time
	admitted map[flowKey]struct{}
}

// flowKey identifies a request or a connection. Kernel events have no id and are
// identified by their addresses.
type flowKey struct {
	agent    int
	base     uint32
	stream   uint64
	src, dst netip.AddrPort // only for events without an id
}

func keyOf(agent int, e *tap.Event) flowKey {
	if e.Base == 0 && e.Stream == 0 {
		return flowKey{agent: agent, src: e.Source.Addr, dst: e.Destination.Addr}
	}
	return flowKey{agent: agent, base: e.Base, stream: e.Stream}
}

// NewLimiter makes a limiter that admits rate requests and connections per
// second.
func NewLimiter(rate float64) *Limiter {
	burst := max(rate, 1) // one second's worth, but at least one request
	return &Limiter{rate: rate, burst: burst, tokens: burst, admitted: map[flowKey]struct{}{}}
}

// Allow reports whether e is admitted. agent tells agents apart, because each
// numbers its requests on its own.
func (l *Limiter) Allow(agent int, e *tap.Event) bool {
	key := keyOf(agent, e)
	l.mu.Lock()
	defer l.mu.Unlock()
	switch e.Kind {
	case tap.RequestInit, tap.ConnOpen, tap.LegOpen:
		if len(l.admitted) >= maxAdmitted || !l.take(e.Time) {
			return false
		}
		l.admitted[key] = struct{}{}
		return true
	case tap.ResponseEnd, tap.ConnClose, tap.LegClose:
		_, ok := l.admitted[key]
		delete(l.admitted, key)
		// A connection that could not be opened has no first event.
		neverOpened := e.Kind == tap.ConnClose && e.Duration == 0
		return ok || neverOpened && l.take(e.Time)
	}
	_, ok := l.admitted[key]
	return ok
}

// take refills the bucket up to now and takes a token if there is one.
func (l *Limiter) take(now time.Time) bool {
	if passed := now.Sub(l.last); passed > 0 {
		l.tokens = min(l.burst, l.tokens+passed.Seconds()*l.rate)
		l.last = now
	}
	if l.tokens < 1 {
		return false
	}
	l.tokens--
	return true
}
