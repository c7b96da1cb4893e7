// Package depend computes values that depend on each other, and after a change computes those
// anew that depend on it, and no others.
//
// Who reads a value while it computes another one becomes its user: the edges are not
// declared, and so none can be forgotten. A value that is computed and stays the same stops
// the change there. Values have levels: one reads only those of lower levels, so each is
// computed at most once after a change, and never from a value that is out of date.
//
// A Graph and its Nodes belong to one goroutine.
package depend

import "slices"

// Levels is the number of levels.
const Levels = 16

// Unit computes a value. It keeps the value itself.
type Unit interface {
	// Compute computes the value and reports whether it has changed. It calls Graph.Read for
	// each node whose value it looks at.
	Compute() (changed bool)
}

// Node is a value in a Graph. The zero Node is an input at level 0, which nobody computes:
// its owner calls Touch.
type Node struct {
	unit   Unit
	level  uint8
	queued bool
	uses   []*Node
	users  set
}

// NewNode returns a node at a level from 1 on. Its value is computed at the first Settle after
// the first Mark.
func NewNode(level int, u Unit) Node { return Node{unit: u, level: uint8(level)} }

// Used reports whether a value depends on n, beside those of other nodes.
func (n *Node) Used(beside ...*Node) bool {
	used := n.users.len()
	for _, b := range beside {
		if n.users.has(b) {
			used--
		}
	}
	return used > 0
}

// Graph has what is to be computed. The zero Graph has nothing.
type Graph struct {
	queue    [Levels][]*Node
	at       int // level at which Settle is
	current  *Node
	computed uint64
	misread  uint64
}

// Computed returns how many values were computed since the start: a measure of work.
func (g *Graph) Computed() uint64 { return g.computed }

// Misread returns how often a value was read that is not of a lower level, or one of a lower
// level was changed by one of a higher level: errors of the program, by which a value is
// computed twice. It is 0.
func (g *Graph) Misread() uint64 { return g.misread }

// Read notes that the value that is being computed depends on n.
func (g *Graph) Read(n *Node) {
	c := g.current
	if c == nil {
		return
	}
	if n.level >= c.level {
		g.misread++
	}
	if n.users.add(c) {
		c.uses = append(c.uses, n)
	}
}

// Touch says that the value of n has changed: what depends on it is computed anew.
func (g *Graph) Touch(n *Node) { n.users.each(g.Mark) }

// Mark says that n is to be computed.
func (g *Graph) Mark(n *Node) {
	if n.unit == nil || n.queued {
		return
	}
	n.queued = true
	g.queue[n.level] = append(g.queue[n.level], n)
	if int(n.level) < g.at {
		g.at = int(n.level)
		g.misread++
	}
}

// Settle computes what is to be computed.
func (g *Graph) Settle() {
	for g.at = 0; g.at < Levels; {
		queue := g.queue[g.at]
		if len(queue) == 0 {
			if cap(queue) > 1024 {
				g.queue[g.at] = nil // it was large at the start
			}
			g.at++
			continue
		}
		last := len(queue) - 1
		n := queue[last]
		queue[last] = nil
		g.queue[g.at] = queue[:last]
		g.compute(n)
	}
	g.at = 0
}

func (g *Graph) compute(n *Node) {
	n.queued = false
	g.Forget(n)
	g.current = n
	g.computed++
	changed := n.unit.Compute()
	g.current = nil
	n.uses = slices.Clip(n.uses)
	if changed {
		g.Touch(n)
	}
}

// Forget removes n from the users of what it has read.
func (g *Graph) Forget(n *Node) {
	for i, used := range n.uses {
		used.users.remove(n)
		n.uses[i] = nil
	}
	n.uses = n.uses[:0]
}
