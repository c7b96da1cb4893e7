// Package top aggregates tap events into the table of `agent top`: one row for
// each source, destination, method and path. It is pure: its only clock is the
// time of the events, and it does no I/O.
package top

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
	"github.com/underlane/underlane/pkg/tap/render"
)

// DefaultMaxRows is the bound on the rows of a Table if its creator sets none.
const DefaultMaxRows = 1000

// Key identifies a row. A connection that is not HTTP has the method TCP. Its
// path is its port, after the TLS server name if it sent one.
type Key struct {
	Source      string // pod, or the address if no pod is known
	Destination string
	Method      string // "": the row is of a route
	Path        string // or, in a Table by routes, the route and its rule
}

// Row sums up the requests or connections of one key.
type Row struct {
	Key
	Opened    uint64        // connections that were opened; 0 for requests
	Best      time.Duration // durations; 0 until there is one
	Worst     time.Duration
	Last      time.Duration
	Successes uint64
	Failures  uint64
	Reasons   map[string]uint64 // failures by the mesh or the kernel, by reason
	seen      time.Time
}

// Count returns the number of requests that have ended, or the number of
// connections including open ones.
func (r *Row) Count() uint64 { return max(r.Opened, r.ended()) }

func (r *Row) ended() uint64 { return r.Successes + r.Failures }

// SuccessRate returns a rate of 0 to 1. ok is false until something has ended.
func (r *Row) SuccessRate() (rate float64, ok bool) {
	if r.ended() == 0 {
		return 0, false
	}
	return float64(r.Successes) / float64(r.ended()), true
}

// Table is the aggregate. It is not safe for concurrent use.
type Table struct {
	hideSources bool
	maxRows     int
	rows        map[Key]*Row

	// EachOnce says that the events contain nothing twice (filter.Once).
	EachOnce bool
	// ByRoute makes a row for each route and rule instead of each method and path, as
	// Linkerd's top --routes. Connections have no routes and no rows then.
	ByRoute bool

	Lost    uint64 // events that were lost because the reader was too slow
	Evicted uint64 // rows dropped to stay within the bound, the least recently seen first
}

// NewTable makes an empty table. With hideSources the source is not part of the
// key. maxRows 0 means DefaultMaxRows.
func NewTable(hideSources bool, maxRows int) *Table {
	if maxRows <= 0 {
		maxRows = DefaultMaxRows
	}
	return &Table{hideSources: hideSources, maxRows: maxRows, rows: map[Key]*Row{}}
}

// HideSources returns what was given to NewTable.
func (t *Table) HideSources() bool { return t.hideSources }

// Add counts an event. It ignores events that neither end a request nor open or
// close a connection.
func (t *Table) Add(e *tap.Event) {
	if !t.EachOnce && seenTwice(e) {
		return
	}
	switch e.Kind {
	case tap.ResponseEnd:
		if t.ByRoute {
			t.row(e, "", routeOf(e)).end(e)
			return
		}
		// Without the query: a row is for a kind of request, not for each value.
		path, _, _ := strings.Cut(e.Path, "?")
		t.row(e, render.Clean(e.Method), render.Clean(path)).end(e)
	case tap.ConnOpen, tap.ConnClose:
		if !t.ByRoute {
			t.connection(e)
		}
	}
}

// NoRoute is the route of requests that none has a say in, as Linkerd names it.
const NoRoute = "[DEFAULT]"

// routeOf returns the route of a request and its rule.
func routeOf(e *tap.Event) string {
	if e.Route == nil {
		return NoRoute
	}
	return render.Clean(e.Route.Name) + "/" + render.Clean(e.Rule)
}

func (t *Table) connection(e *tap.Event) {
	switch e.Kind {
	case tap.ConnOpen:
		t.row(e, "TCP", port(e)).Opened++
	case tap.ConnClose:
		row := t.row(e, "TCP", port(e))
		row.end(e)
		if e.Duration == 0 { // failed before it was open
			row.Opened++
		}
	}
}

// seenTwice reports whether e is the server's report of traffic that the client's
// side reports as well. Between pods of one node that is mutual TLS (used where
// the same-node shortcut is disabled) and kernel events. The client's report
// counts.
func seenTwice(e *tap.Event) bool {
	src, dst := e.Source.Workload, e.Destination.Workload
	if e.Direction != mesh.Inbound || src == nil || dst == nil || src.Node != dst.Node || src.Node == "" {
		return false
	}
	return e.TLS == tap.TLSTrue || e.Origin == tap.FromKernel && src.Meshed
}

func (t *Table) row(e *tap.Event, method, path string) *Row {
	key := Key{Destination: name(&e.Destination), Method: method, Path: path}
	if !t.hideSources {
		key.Source = name(&e.Source)
	}
	r := t.rows[key]
	if r == nil {
		if len(t.rows) >= t.maxRows {
			t.evict()
		}
		r = &Row{Key: key}
		t.rows[key] = r
	}
	r.seen = e.Time
	return r
}

// evict drops a quarter of the rows at once, so that many new paths do not each
// cost a search.
func (t *Table) evict() {
	all := make([]*Row, 0, len(t.rows))
	for _, r := range t.rows {
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b *Row) int { return a.seen.Compare(b.seen) })
	for _, r := range all[:max(1, len(all)/4)] {
		delete(t.rows, r.Key)
		t.Evicted++
	}
}

func (r *Row) end(e *tap.Event) {
	if e.Success() {
		r.Successes++
	} else {
		r.Failures++
	}
	if e.Reason != mesh.ReasonNone {
		if r.Reasons == nil {
			r.Reasons = map[string]uint64{}
		}
		r.Reasons[e.Reason.String()]++
	}
	if e.Duration == 0 {
		return // a connection that never opened has no duration
	}
	if r.Last == 0 || e.Duration < r.Best {
		r.Best = e.Duration
	}
	r.Worst = max(r.Worst, e.Duration)
	r.Last = e.Duration
}

func name(p *tap.Peer) string {
	if w := p.Workload; w != nil && w.OwnerKind == mesh.KindNode {
		return w.OwnerKind + "/" + w.OwnerName
	} else if w != nil {
		return w.Name
	}
	if p.Addr == (netip.AddrPort{}) {
		return "-"
	}
	return p.Addr.Addr().String()
}

func port(e *tap.Event) string {
	return render.Clean(cmp.Or(e.SNI, e.DNS)) + ":" + strconv.Itoa(int(e.Destination.Addr.Port()))
}

// Column is a column of the table, in its order on the screen.
type Column int

// The columns.
const (
	Source Column = iota
	Destination
	Method
	Path
	Count
	Best
	Worst
	Last
	SuccessRate
	NumColumns
)

// Order says how rows are sorted.
type Order struct {
	By      Column
	Reverse bool // reverses the column's own direction
}

// Rows returns sorted copies of the rows. Each column has the direction that is
// most useful: names from A, counts and times from the highest, success rates
// from the lowest. Ties are sorted by count and then by key.
func (t *Table) Rows(order Order) []Row {
	rows := make([]Row, 0, len(t.rows))
	for _, r := range t.rows {
		rows = append(rows, *r)
	}
	slices.SortFunc(rows, func(a, b Row) int {
		c := compare(order.By, &a, &b)
		if order.Reverse {
			c = -c
		}
		return cmp.Or(c, cmp.Compare(b.Count(), a.Count()), compareKeys(&a, &b))
	})
	return rows
}

func compareKeys(a, b *Row) int {
	return cmp.Or(cmp.Compare(a.Source, b.Source), cmp.Compare(a.Destination, b.Destination),
		cmp.Compare(a.Method, b.Method), cmp.Compare(a.Path, b.Path))
}

func compare(by Column, a, b *Row) int {
	switch by {
	case Source:
		return cmp.Compare(a.Source, b.Source)
	case Destination:
		return cmp.Compare(a.Destination, b.Destination)
	case Method:
		return cmp.Compare(a.Method, b.Method)
	case Path:
		return cmp.Compare(a.Path, b.Path)
	case Best:
		return cmp.Compare(b.Best, a.Best)
	case Worst:
		return cmp.Compare(b.Worst, a.Worst)
	case Last:
		return cmp.Compare(b.Last, a.Last)
	case SuccessRate:
		return cmp.Compare(rateOr1(a), rateOr1(b))
	}
	return cmp.Compare(b.Count(), a.Count())
}

func rateOr1(r *Row) float64 {
	if rate, ok := r.SuccessRate(); ok {
		return rate
	}
	return 1
}
