package listener

import (
	"sync/atomic"
	"time"

	"github.com/underlane/underlane/pkg/rawio"
)

// Turns are those of a goroutine that accepts connections of a pod.
type Turns interface {
	rawio.Turns
	// Contended reports whether other pods may want the processors.
	Contended() bool
}

// always is the Turns of a goroutine that never waits for one.
type always struct{}

func (always) Pause()          {}
func (always) Resume()         {}
func (always) Contended() bool { return false }

// growth bounds how fast the open connections of a pod become more, in a second, while
// others want the processors: a token bucket that an end of a connection fills as well. A
// pod that opens thousands of connections at once would otherwise use all processors until
// they are served, and even with turns each step of another pod's request waits for some of
// that. One that opens and closes connections, as many as it likes, is not held up, nor one
// that opens growthAtOnce.
type growth struct {
	perSecond int // 0: there is no limit
	ended     atomic.Int64

	// The goroutine that accepts uses these.
	left float64
	at   time.Time
}

// growthAtOnce is how many connections a pod may open beside those that it has, before the
// bound is felt.
const growthAtOnce = 256

func newGrowth(perSecond int, now time.Time) *growth {
	return &growth{perSecond: perSecond, left: growthAtOnce, at: now}
}

// add notes a connection that was accepted, and returns how long the next one has to wait.
func (g *growth) add(now time.Time, contended bool) time.Duration {
	if g.perSecond <= 0 {
		return 0
	}
	g.left = min(growthAtOnce, g.left+float64(g.ended.Swap(0))+now.Sub(g.at).Seconds()*float64(g.perSecond)) - 1
	g.at = now
	switch {
	case g.left >= 0:
		return 0
	case !contended: // what was let through then is not held against the pod
		g.left = 0
		return 0
	}
	return time.Duration(-g.left / float64(g.perSecond) * float64(time.Second))
}
