package load

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/pkg/histogram"
)

// pacer is the open loop. Like those of real users, requests are due at times that
// do not depend on the responses. A request that finds all connections busy waits,
// and that wait is part of its latency.
type pacer struct {
	*run
	ended sync.WaitGroup
	once  sync.Once

	mu   sync.Mutex
	room []link  // connections with room, one entry for each request that they can take
	due  []int64 // requests that wait for room
}

func newPacer(r *run) *pacer { return &pacer{run: r} }

// serve receives on a connection. The first call starts the clock.
func (p *pacer) serve(l link) {
	p.mu.Lock()
	for range p.Work.Streams {
		p.room = append(p.room, l)
	}
	p.mu.Unlock()
	p.once.Do(func() { p.ended.Go(p.tick) })

	var c counted
	c.latency.Init(histogram.Fine)
	defer p.add(&c)
	for p.phase.Load() != over {
		sent := false
		var serr error
		err := l.receive(func(due int64) {
			c.all++
			if p.phase.Load() == measuring {
				c.requests++
				c.latency.Observe(time.Duration(p.now() - due))
			}
			if next, ok := p.next(l); ok {
				sent = true
				serr = l.send(next)
			}
		})
		if sent && err == nil && serr == nil {
			serr = l.flush()
		}
		if err != nil || serr != nil {
			p.failed(err)
			p.failed(serr)
			return
		}
	}
}

// next returns a waiting request, or records that l has room.
func (p *pacer) next(l link) (due int64, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.due) == 0 {
		p.room = append(p.room, l)
		return 0, false
	}
	due = p.due[0]
	p.due = p.due[1:]
	return due, true
}

// take returns the connection with room that has waited longest, or records that a
// request waits.
func (p *pacer) take(due int64) link {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.room) == 0 {
		p.due = append(p.due, due)
		return nil
	}
	l := p.room[0]
	p.room = p.room[:copy(p.room, p.room[1:])]
	return l
}

// tick sends requests at the time when they are due. It has its own thread, because
// the timers of an idle Go runtime are a millisecond late.
func (p *pacer) tick() {
	runtime.LockOSThread()
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	rng := rand.New(rand.NewPCG(1, 1)) // a fixed seed: the same times for all subjects
	mean := float64(time.Second) / p.Rate
	next := p.now()
	for p.phase.Load() != over {
		if wait := next - p.now(); wait > 0 {
			ts := unix.NsecToTimespec(wait)
			_ = unix.Nanosleep(&ts, nil) // if woken early, it checks the time again
			continue
		}
		if p.phase.Load() == measuring {
			p.total.Late.Observe(time.Duration(p.now() - next)) // only this goroutine uses it until the end
		}
		if l := p.take(next); l != nil {
			err := l.send(next)
			if err == nil {
				err = l.flush()
			}
			p.failed(err)
		}
		next += int64(rng.ExpFloat64() * mean)
	}
}

func (p *pacer) wait() { p.ended.Wait() }
