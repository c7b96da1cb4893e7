// Package lifetime has the stages of a proxy's end. Each stage is a context, so that other
// packages can wait for it.
package lifetime

import (
	"context"
	"sync"
)

// Lifetime has the stages of one proxy. They begin in this order. A stage that was skipped
// begins together with the next one.
type Lifetime struct {
	// Retiring: connections end where a client does not notice it.
	Retiring context.Context
	// Draining: all connections end soon.
	Draining context.Context
	// Ended: everything is closed.
	Ended context.Context

	retire, drain, end context.CancelFunc
}

// New returns a lifetime in which no stage has begun.
func New() *Lifetime {
	l := new(Lifetime)
	l.Ended, l.end = context.WithCancel(context.Background())
	l.Draining, l.drain = context.WithCancel(l.Ended)
	l.Retiring, l.retire = context.WithCancel(l.Draining)
	return l
}

// Retire begins the stage Retiring.
func (l *Lifetime) Retire() { l.retire() }

// Drain begins the stage Draining.
func (l *Lifetime) Drain() { l.drain() }

// End begins the stage Ended.
func (l *Lifetime) End() { l.end() }

// Group is a set of connections for each of which a function is called when a stage
// begins.
type Group[C comparable] struct {
	stage context.Context
	tell  func(C)

	mu  sync.Mutex
	all map[C]struct{}
}

// NewGroup makes a group. tell is called for each connection when the stage begins, and
// for each one that enters later. It may be called twice for one connection, and must not
// wait.
func NewGroup[C comparable](stage context.Context, tell func(C)) *Group[C] {
	g := &Group[C]{stage: stage, tell: tell, all: make(map[C]struct{})}
	context.AfterFunc(stage, func() { g.Each(tell) })
	return g
}

// Enter adds a connection. Leave removes it.
func (g *Group[C]) Enter(c C) {
	g.mu.Lock()
	g.all[c] = struct{}{}
	g.mu.Unlock()
	if g.stage.Err() != nil {
		g.tell(c)
	}
}

// Leave removes a connection.
func (g *Group[C]) Leave(c C) {
	g.mu.Lock()
	delete(g.all, c)
	g.mu.Unlock()
}

// Each calls f for each connection. No connection enters or leaves meanwhile.
func (g *Group[C]) Each(f func(C)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for c := range g.all {
		f(c)
	}
}
