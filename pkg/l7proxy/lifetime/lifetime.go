// Package lifetime says how far the end of a proxy has come. Each stage is a
// context, so that whoever has to know of it can wait for it.
package lifetime

import (
	"context"
	"sync"
)

// Lifetime is that of one proxy. Its stages begin in this order; one that is left
// out begins with the next.
type Lifetime struct {
	// Retiring: connections end as they can without a client noticing.
	Retiring context.Context
	// Draining: every connection is asked to end soon.
	Draining context.Context
	// Ended: everything is closed.
	Ended context.Context

	retire, drain, end context.CancelFunc
}

// New is a lifetime that has just begun.
func New() *Lifetime {
	l := new(Lifetime)
	l.Ended, l.end = context.WithCancel(context.Background())
	l.Draining, l.drain = context.WithCancel(l.Ended)
	l.Retiring, l.retire = context.WithCancel(l.Draining)
	return l
}

// Retire begins the first stage.
func (l *Lifetime) Retire() { l.retire() }

// Drain begins the second.
func (l *Lifetime) Drain() { l.drain() }

// End begins the last.
func (l *Lifetime) End() { l.end() }

// Group are connections that are told when a stage begins.
type Group[C comparable] struct {
	stage context.Context
	tell  func(C)

	mu  sync.Mutex
	all map[C]struct{}
}

// NewGroup makes a group. tell is called for each connection when the stage begins,
// and for each that enters later; it may be called twice, and must not wait.
func NewGroup[C comparable](stage context.Context, tell func(C)) *Group[C] {
	g := &Group[C]{stage: stage, tell: tell, all: make(map[C]struct{})}
	context.AfterFunc(stage, func() { g.Each(tell) })
	return g
}

// Enter adds a connection.
func (g *Group[C]) Enter(c C) {
	g.mu.Lock()
	g.all[c] = struct{}{}
	g.mu.Unlock()
	if g.stage.Err() != nil {
		g.tell(c)
	}
}

// Leave takes a connection out.
func (g *Group[C]) Leave(c C) {
	g.mu.Lock()
	delete(g.all, c)
	g.mu.Unlock()
}

// Each calls f for each connection, none of which leaves meanwhile.
func (g *Group[C]) Each(f func(C)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for c := range g.all {
		f(c)
	}
}
