package authz

import (
	"fmt"
	"slices"
)

// table holds the rules of one action.
type table struct {
	requests    index[byPath]
	connections index[[]entry]
	seen        map[string]struct{} // while it is filled: what connections has
	filled      bool
}

// add adds the clauses of a rule.
func (t *table) add(clauses []clause, place Place, at order) {
	t.filled = true
	for i := range clauses {
		c := &clauses[i]
		e := entry{c, &place, at}
		keys := 0
		counting := new(index[byPath])
		counting.file(c.source, func(*byPath) { keys += c.operation.keys() })
		precise := keys*len(clauses) <= maxKeys
		t.requests.file(c.source, func(b *byPath) { b.file(e, precise) })

		// To a connection, rules that differ by paths alone are one.
		key := c.connectionKey()
		if _, ok := t.seen[key]; ok && key != "" {
			continue
		}
		if t.seen == nil {
			t.seen = map[string]struct{}{}
		}
		t.seen[key] = struct{}{}
		t.connections.file(c.source, func(list *[]entry) { *list = append(*list, e) })
	}
}

// connectionKey is the same for clauses that are the same to DecideConnection, or
// "" if it is not known.
func (c *clause) connectionKey() string {
	for i := range c.when {
		if k := c.when[i].kind; k == ConditionSource || k == ConditionOperation {
			return ""
		}
	}
	return fmt.Sprint(c.source.key, c.operation.ports, c.operation.notPorts, c.request)
}

func (t *table) finish() {
	t.seen = nil
	t.requests.each((*byPath).finish)
	t.connections.each(func(list *[]entry) {
		slices.SortStableFunc(*list, func(a, b entry) int { return a.order.compare(b.order) })
	})
}

func (s *Set) finish() {
	for i := range s.tables {
		s.tables[i].finish()
	}
}
