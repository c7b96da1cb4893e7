package load

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// pacer is the open loop: requests are due at times that do not depend on the
// answers, as users come. One that finds every connection busy waits, and that
// wait is part of its latency.
type pacer struct {
	*run
	ended sync.WaitGroup
	once  sync.Once

	mu   sync.Mutex
	room []link  // connections that can take a request, one entry for each it can take
	due  []int64 // requests that wait for room
}

func newPacer(r *run) *pacer { return &pacer{run: r} }

// serve receives on one connection. The first one starts the clock.
func (p *pacer) serve(l link) {
	p.mu.Lock()
	for range p.Work.Streams {
		p.room = append(p.room, l)
	}
	p.mu.Unlock()
	p.once.Do(func() { p.ended.Go(p.tick) })

	var c counted
	defer p.add(&c)
	for p.phase.Load() != over {
		sent := false
		var serr error
		err := l.receive(func(due int64) {
			c.all++
			if p.phase.Load() == measuring {
				c.requests++
				c.latency.Record(time.Duration(p.now() - due))
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

// next gives a request that waits, or notes that l has room.
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

// take gives a connection with room, the one that has waited longest, or notes
// that a request waits.
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

// tick sends what is due when it is due, on a thread of its own: the runtime's
// timers are a millisecond late when it is idle.
func (p *pacer) tick() {
	runtime.LockOSThread()
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	rng := rand.New(rand.NewPCG(1, 1)) // the same times for everybody who is measured
	mean := float64(time.Second) / p.Rate
	next := p.now()
	for p.phase.Load() != over {
		if wait := next - p.now(); wait > 0 {
			ts := unix.NsecToTimespec(wait)
			_ = unix.Nanosleep(&ts, nil) // woken early it looks again
			continue
		}
		if p.phase.Load() == measuring {
			p.total.Late.Record(time.Duration(p.now() - next)) // only here until the end
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
