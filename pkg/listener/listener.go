// Package listener accepts the connections of pods and tracks the open ones, so that an
// agent can wait for their end before it ends.
package listener

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/underlane/underlane/pkg/rawio"
)

// Group is the accept loops and open connections of an agent.
type Group struct {
	Log *slog.Logger
	// OnRevived, if set, is called when a listener that another program had destroyed
	// listens again. Maps of the kernel that had the listener have lost it.
	OnRevived func()

	loops     sync.WaitGroup
	workers   workers
	open      atomic.Int64
	exhausted atomic.Uint64
	panics    atomic.Uint64
	revived   atomic.Uint64
	warned    atomic.Int64  // when warn last logged, Unix time in ns
	quiet     atomic.Uint64 // what warn has not logged since then

	mu    sync.Mutex
	conns map[*rawio.Conn]struct{}
	empty chan struct{} // closed when the last connection ends while Drain waits
}

// exhaustedPause is how long an accept loop waits after a failure. The likely cause is that
// the process has no descriptors left, and some may be closed in that time. The loop must
// not end because of a failure: the pod would be cut off without a message.
const exhaustedPause = 50 * time.Millisecond

// Rest is a connection whose handler has returned, and that goes on: it calls over when it has
// ended, in a goroutine that may wait, with what that has panicked with, if it has. A handler
// returns nil if the connection has ended.
type Rest func(over func(defect any, stack []byte))

// Then returns a Rest that calls f at the end, before what follows. It returns nil if there is no r.
func (r Rest) Then(f func()) Rest {
	if r == nil {
		return nil
	}
	return func(over func(any, []byte)) {
		r(func(defect any, stack []byte) {
			defer over(defect, stack)
			f()
		})
	}
}

// Serve accepts connections from l until it is closed, and calls handle for each one in a
// goroutine of its own. It closes the connection when handle returns.
func (g *Group) Serve(l *rawio.Listener, handle func(*rawio.Conn)) {
	g.ServeInTurn(l, Manner{}, func(c *rawio.Conn) Rest {
		handle(c)
		return nil
	})
}

// acceptsInRow is after how many connections the goroutine that accepts lets the goroutines
// begin that serve them. In a burst it would make hundreds ready, and what became ready after
// them would wait for what all of them do until they have to wait.
const acceptsInRow = 8

// Manner is how connections of a pod are accepted.
type Manner struct {
	Turns  Turns // of the goroutine that accepts; nil: it never waits
	Growth int   // connections a second by which the open ones may become more under contention; 0: any number
}

// ServeInTurn is Serve for a pod that has turns at the processors: who connects to it again and
// again takes the time from it. If handle returns a Rest, the connection is closed when that ends.
func (g *Group) ServeInTurn(l *rawio.Listener, m Manner, handle func(*rawio.Conn) Rest) {
	turns := m.Turns
	if turns == nil {
		turns = always{}
	}
	grown := newGrowth(m.Growth, time.Now())
	g.loops.Add(1)
	g.workers.begin()
	go func() {
		defer g.loops.Done()
		defer g.workers.end()
		defer turns.Pause()
		var r revival
		for n := 0; ; n++ {
			if n%acceptsInRow == acceptsInRow-1 {
				runtime.Gosched()
			}
			turns.Pause()
			c, err := l.Accept()
			turns.Resume()
			switch {
			case err == nil:
				g.enter(c) // before the goroutine starts, so that Drain does not miss it
				g.workers.serve(job{g, c, handle, grown})
				if rest := grown.add(time.Now(), turns.Contended()); rest > 0 {
					turns.Pause()
					time.Sleep(rest)
				}
			case errors.Is(err, net.ErrClosed):
				return
			case destroyed(err):
				turns.Pause()
				time.Sleep(r.wait(time.Now()))
				g.revive(l.Addr(), l.Control)
			default:
				g.failed(l.Addr(), err)
				turns.Pause()
				time.Sleep(exhaustedPause)
			}
		}
	}()
}

func (j job) serve() {
	defer func() {
		if defect := recover(); defect != nil {
			j.over(defect, debug.Stack())
		}
	}()
	if rest := j.handle(j.c); rest != nil {
		rest(j.over)
		return
	}
	j.over(nil, nil)
}

// over ends a connection that was served. A defect that the bytes of one connection trigger must
// not end the traffic of the whole node.
func (j job) over(defect any, stack []byte) {
	g, c := j.group, j.c
	if defect != nil {
		g.panics.Add(1)
		g.Log.Error("connection cut by a defect: please report this", "client", c.Remote(), "destination", c.Local(),
			"panic", defect, "stack", string(stack))
		_ = c.Reset()
	}
	c.Close()
	g.leave(c)
	j.grown.ended.Add(1)
}

func (g *Group) enter(c *rawio.Conn) {
	g.open.Add(1)
	g.mu.Lock()
	if g.conns == nil {
		g.conns = make(map[*rawio.Conn]struct{})
	}
	g.conns[c] = struct{}{}
	g.mu.Unlock()
}

func (g *Group) leave(c *rawio.Conn) {
	g.open.Add(-1)
	g.mu.Lock()
	delete(g.conns, c)
	if len(g.conns) == 0 && g.empty != nil {
		close(g.empty)
		g.empty = nil
	}
	g.mu.Unlock()
}

// Open is the number of open connections.
func (g *Group) Open() int { return int(g.open.Load()) }

// Exhausted counts accepts that failed because no descriptor or memory was left.
func (g *Group) Exhausted() uint64 { return g.exhausted.Load() }

// Panics counts connections that were cut because of a panic.
func (g *Group) Panics() uint64 { return g.panics.Load() }

// Drain waits until every connection has ended by itself or ctx is done. It then resets the
// connections that are still open, and returns their number. Close the listeners first.
func (g *Group) Drain(ctx context.Context) (cut int) {
	g.loops.Wait()
	g.mu.Lock()
	if len(g.conns) == 0 {
		g.mu.Unlock()
		return 0
	}
	empty := make(chan struct{})
	g.empty = empty
	g.mu.Unlock()
	select {
	case <-empty:
		return 0
	case <-ctx.Done():
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for c := range g.conns {
		_ = c.Reset()
		c.Close()
	}
	return len(g.conns)
}
