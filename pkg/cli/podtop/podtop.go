// Package podtop is the table of `agent top --pods` and `underlane top --pods`: what each pod
// costs the agent of its node. It is pure: its only clock is the time of the figures, and it
// does no I/O.
package podtop

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/tap/top"
)

// The columns, in their order on the screen.
const (
	Pod top.Column = iota
	CPU
	Total
	Wait
	Waits
	Memory
	Conns
	Descriptors
	Weight
	numColumns
)

// names are the columns' names on the command line.
var names = [numColumns]string{"pod", "cpu", "total", "wait", "waits", "memory", "conns", "fds", "weight"}

// ParseOrder parses the name of a column, such as cpu. A "-" before it reverses the order.
func ParseOrder(text string) (top.Order, error) {
	name, reverse := strings.CutPrefix(text, "-")
	if i := slices.Index(names[:], name); i >= 0 {
		return top.Order{By: top.Column(i), Reverse: reverse}, nil
	}
	return top.Order{}, fmt.Errorf("sort by %q: use one of %s", text, strings.Join(names[:], ", "))
}

// Side is what a pod costs in one direction.
type Side struct {
	CPU         float64 // processors, on average of the interval
	Total       time.Duration
	Wait        float64 // seconds of waiting a second, of all goroutines together
	Waits       float64 // a second
	Bytes       uint64
	Connections uint64
	Descriptors uint64
	Streams     uint64
	Clients     uint64
}

// Row is a pod.
type Row struct {
	Node                 string
	Namespace, Name, UID string
	Weight               uint32
	Outbound, Inbound    Side
}

func (r *Row) name() string { return r.Namespace + "/" + r.Name }

// sum returns both directions together.
func (r *Row) sum() Side {
	o, i := &r.Outbound, &r.Inbound
	return Side{
		CPU: o.CPU + i.CPU, Total: o.Total + i.Total, Wait: o.Wait + i.Wait, Waits: o.Waits + i.Waits,
		Bytes: o.Bytes + i.Bytes, Connections: o.Connections + i.Connections, Descriptors: o.Descriptors + i.Descriptors,
		Streams: o.Streams + i.Streams, Clients: o.Clients + i.Clients,
	}
}

// Table has the figures of nodes at two moments. It is not safe for concurrent use.
type Table struct {
	Namespace string // show only its pods; "": all
	Nodes     bool   // show the nodes of pods

	nodes []span // in the order of their names
}

// span has the last two answers of a node. Both are the same before the second one.
type span struct{ first, last *agentv1.CostsResponse }

// Add adds an answer of each node. Nodes that have not answered are left out until they do.
// Rates are those between a node's last two answers.
func (t *Table) Add(answers ...*agentv1.CostsResponse) {
	before := t.nodes
	t.nodes = nil
	for _, last := range answers {
		s := span{last, last}
		for _, b := range before {
			if b.last.GetNode() == last.GetNode() {
				s.first = b.last
			}
		}
		t.nodes = append(t.nodes, s)
	}
	slices.SortFunc(t.nodes, func(a, b span) int { return cmp.Compare(a.last.GetNode(), b.last.GetNode()) })
}

// interval returns the time between the two answers.
func (s *span) interval() time.Duration {
	return s.last.GetTime().AsTime().Sub(s.first.GetTime().AsTime())
}

// before returns the pods of the first answer by UID.
func (s *span) before() map[string]*agentv1.PodCost {
	pods := make(map[string]*agentv1.PodCost)
	for _, p := range s.first.GetPods() {
		pods[p.GetUid()] = p
	}
	return pods
}

// Rows returns the pods in an order. Names begin at A, figures at the highest.
func (t *Table) Rows(order top.Order) []Row {
	rows := []Row{}
	for _, s := range t.nodes {
		before := s.before()
		for _, p := range s.last.GetPods() {
			if t.Namespace != "" && p.GetNamespace() != t.Namespace {
				continue
			}
			was := before[p.GetUid()]
			rows = append(rows, Row{
				Node: s.last.GetNode(), Namespace: p.GetNamespace(), Name: p.GetName(), UID: p.GetUid(), Weight: p.GetWeight(),
				Outbound: side(was.GetOutbound(), p.GetOutbound(), s.interval()),
				Inbound:  side(was.GetInbound(), p.GetInbound(), s.interval()),
			})
		}
	}
	slices.SortFunc(rows, func(a, b Row) int {
		c := compare(order.By, &a, &b)
		if order.Reverse {
			c = -c
		}
		return cmp.Or(c, cmp.Compare(a.name(), b.name()), cmp.Compare(a.UID, b.UID))
	})
	return rows
}

func side(was, is *agentv1.Cost, interval time.Duration) Side {
	s := Side{
		Total: is.GetProcessor().AsDuration(), Bytes: is.GetBytes(), Connections: is.GetConnections(),
		Descriptors: is.GetDescriptors(), Streams: is.GetStreams(), Clients: is.GetClients(),
	}
	s.CPU = rate(was.GetProcessor().AsDuration(), s.Total, interval)
	s.Wait = rate(was.GetWaited().AsDuration(), is.GetWaited().AsDuration(), interval)
	s.Waits = rate(was.GetWaits(), is.GetWaits(), interval) * float64(time.Second)
	return s
}

// rate returns by how much a sum has grown, divided by the interval in nanoseconds.
func rate[N time.Duration | uint64](was, is N, interval time.Duration) float64 {
	if interval <= 0 {
		return 0
	}
	return float64(growth(was, is)) / float64(interval)
}

// growth returns by how much a sum has grown. A sum that is less than before began anew.
func growth[N time.Duration | uint64](was, is N) N {
	if is < was {
		was = 0
	}
	return is - was
}

// own returns how many processors the agent has used for no pod, on average of the interval.
func (s *span) own() float64 {
	before := s.before()
	own := growth(s.first.GetProcess().AsDuration(), s.last.GetProcess().AsDuration())
	for _, p := range s.last.GetPods() {
		was := before[p.GetUid()]
		own -= growth(was.GetOutbound().GetProcessor().AsDuration(), p.GetOutbound().GetProcessor().AsDuration())
		own -= growth(was.GetInbound().GetProcessor().AsDuration(), p.GetInbound().GetProcessor().AsDuration())
	}
	return rate(0, max(own, 0), s.interval())
}

func compare(by top.Column, a, b *Row) int {
	x, y := a.sum(), b.sum()
	switch by {
	case Pod:
		return cmp.Compare(a.name(), b.name())
	case CPU:
		return cmp.Compare(y.CPU, x.CPU)
	case Total:
		return cmp.Compare(y.Total, x.Total)
	case Wait:
		return cmp.Compare(y.Wait, x.Wait)
	case Waits:
		return cmp.Compare(y.Waits, x.Waits)
	case Memory:
		return cmp.Compare(y.Bytes, x.Bytes)
	case Conns:
		return cmp.Compare(y.Connections, x.Connections)
	case Descriptors:
		return cmp.Compare(y.Descriptors, x.Descriptors)
	}
	return cmp.Compare(b.Weight, a.Weight)
}
