package route

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/underlane/underlane/pkg/mesh"
)

// Table holds the compiled routes of one port of a Service. It is immutable;
// the nil Table has no routes.
type Table struct {
	http, grpc *hosts // nil: no routes of that kind
	rules      []*Rule
	backends   []mesh.ServicePortRef
	compared   compared
}

// Compile checks routes and merges them into a Table. A route with an error is
// left out as a whole. The returned error joins one error for each such route
// and names it; the Table is valid and has all other routes.
func Compile(routes []*mesh.Route) (*Table, error) {
	t := new(Table)
	var errs []error
	routes = slices.Clone(routes)
	slices.SortStableFunc(routes, older)
	order := 0
	for _, r := range routes {
		rules, err := compileRoute(r)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s %s/%s: %w", r.Kind, r.Namespace, r.Name, err))
			continue
		}
		if len(rules) == 0 {
			continue // it applies to no request
		}
		half := &t.http
		if r.GRPC {
			half = &t.grpc
		}
		if *half == nil {
			*half = new(hosts)
		}
		for _, rule := range rules {
			t.rules = append(t.rules, rule.Rule)
			t.number(rule.Rule)
			for _, c := range rule.candidates {
				c.order = order
				order++
				t.compared.add(c)
				(*half).add(r.Hostnames, c)
			}
		}
	}
	for _, half := range []*hosts{t.http, t.grpc} {
		if half != nil {
			half.finish()
		}
	}
	return t, errors.Join(errs...)
}

// Check returns what is wrong with a route, in words for the route's status, or
// nil.
func Check(r *mesh.Route) error {
	_, err := compileRoute(r)
	return err
}

// Rules returns the rules of all routes, those of the oldest route first.
func (t *Table) Rules() []*Rule {
	if t == nil {
		return nil
	}
	return t.rules
}

// Backends returns all backends to which the rules send requests or copies of
// requests, each once. Action.BackendIndex and Mirror.BackendIndex are indices into it,
// so that callers can keep state for each backend in a slice and need no look-up.
func (t *Table) Backends() []mesh.ServicePortRef {
	if t == nil {
		return nil
	}
	return t.backends
}

func (t *Table) number(r *Rule) {
	at := func(ref mesh.ServicePortRef) int {
		i := slices.Index(t.backends, ref)
		if i < 0 {
			i = len(t.backends)
			t.backends = append(t.backends, ref)
		}
		return i
	}
	for i := range r.actions {
		a := &r.actions[i]
		if a.Kind == Forward && !a.Original {
			a.BackendIndex = at(a.Backend)
		}
		for j := range a.Mirrors {
			a.Mirrors[j].BackendIndex = at(a.Mirrors[j].Backend)
		}
	}
}

// older orders routes that match equally well: by age, then by "namespace/name".
func older(a, b *mesh.Route) int {
	return cmp.Or(
		a.Created.Compare(b.Created),
		strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name),
	)
}

// hosts finds candidates by the hostname of a request: first those for exactly
// this name, then those for the longest wildcard, then those for any name.
type hosts struct {
	exact map[string]*paths
	wild  map[string]*paths // the key is the part after '*', including the dot
	any   paths
}

func (h *hosts) add(names []string, c *candidate) {
	if len(names) == 0 {
		h.any.add(c)
	}
	for _, name := range names {
		in := &h.exact
		if suffix, ok := strings.CutPrefix(name, "*"); ok {
			in, name = &h.wild, suffix
		}
		if *in == nil {
			*in = make(map[string]*paths)
		}
		if (*in)[name] == nil {
			(*in)[name] = new(paths)
		}
		(*in)[name].add(c)
	}
}

func (h *hosts) finish() {
	for _, m := range []map[string]*paths{h.exact, h.wild} {
		for _, p := range m {
			p.finish()
		}
	}
	h.any.finish()
}

// paths finds candidates by path, in order of precedence.
type paths struct {
	exact    map[string]list
	patterns list // regular expressions
	prefixes map[string]list
	lengths  []int           // of prefixes, longest first
	methods  map[string]list // gRPC methods, of any service
	rest     list            // candidates for any path
	unknown  list            // before all others: how they compare is not known
}

// list is in order of precedence after finish.
type list []*candidate

func (p *paths) add(c *candidate) {
	switch {
	case c.pattern != nil:
		p.patterns = append(p.patterns, c)
	case c.kind == byExact:
		insert(&p.exact, c)
	case c.kind == byMethod:
		insert(&p.methods, c)
	case c.kind == byUnknown:
		p.unknown = append(p.unknown, c)
	case c.path == "":
		p.rest = append(p.rest, c)
	default:
		insert(&p.prefixes, c)
	}
}

func insert(m *map[string]list, c *candidate) {
	if *m == nil {
		*m = make(map[string]list)
	}
	(*m)[c.path] = append((*m)[c.path], c)
}

func (p *paths) finish() {
	for prefix := range p.prefixes {
		p.lengths = append(p.lengths, len(prefix))
	}
	slices.Sort(p.lengths)
	p.lengths = slices.Compact(p.lengths)
	slices.Reverse(p.lengths)
	for _, m := range []map[string]list{p.exact, p.prefixes, p.methods} {
		for _, l := range m {
			slices.SortFunc(l, precedence)
		}
	}
	slices.SortFunc(p.patterns, func(a, b *candidate) int {
		return cmp.Or(b.length-a.length, precedence(a, b))
	})
	slices.SortFunc(p.rest, precedence)
	slices.SortFunc(p.unknown, precedence)
}

// precedence compares candidates whose paths match equally well.
func precedence(a, b *candidate) int {
	return cmp.Or(
		b.methods()-a.methods(),
		len(b.headers)-len(a.headers),
		len(b.query)-len(a.query),
		a.order-b.order,
	)
}
