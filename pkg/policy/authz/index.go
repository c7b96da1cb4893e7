package authz

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/underlane/underlane/pkg/mesh"
)

// index finds what a client may match by who it is. Each T is under the values of
// one field of a source, the most telling one.
type index[T any] struct {
	identities map[mesh.Identity]*T
	uris       map[string]*T
	namespaces map[string]*T
	domains    map[string]*T
	networks   map[netip.Prefix]*T
	lengths    [2][]int // of networks: IPv4, IPv6
	nobody     *T       // clients without an identity
	any        *T
}

// maxKeys bounds the places under which one clause is filed. With more of them it
// is filed with less precision, and still judged as a whole.
const maxKeys = 4096

// file calls put for each T under which something with that source belongs.
func (x *index[T]) file(s *source, put func(*T)) {
	switch {
	case s.principals != nil && s.principals.onlyExact():
		s.principals.leads(func(uri string, _ bool) {
			if id, err := mesh.ParseIdentity(uri); err == nil {
				put(under(&x.identities, id))
			} else {
				put(under(&x.uris, uri))
			}
		})
	case s.accounts != nil:
		for a := range s.accounts.named {
			put(under(&x.identities, mesh.Identity{TrustDomain: s.accounts.domain, Namespace: a.Namespace, ServiceAccount: a.Name}))
		}
		for namespace := range s.accounts.all {
			put(under(&x.namespaces, namespace))
		}
	case s.namespaces != nil && s.namespaces.onlyExact():
		s.namespaces.leads(func(name string, _ bool) { put(under(&x.namespaces, name)) })
	case s.networks != nil:
		for _, n := range s.networks {
			put(under(&x.networks, n.CIDR))
			lengths := &x.lengths[0]
			if n.CIDR.Addr().Is6() {
				lengths = &x.lengths[1]
			}
			if !slices.Contains(*lengths, n.CIDR.Bits()) {
				*lengths = append(*lengths, n.CIDR.Bits())
			}
		}
	case s.domains != nil && s.domains.onlyExact():
		s.domains.leads(func(name string, _ bool) { put(under(&x.domains, name)) })
	case s.authentication == Unauthenticated:
		put(made(&x.nobody))
	default:
		put(made(&x.any))
	}
}

func under[K comparable, T any](m *map[K]*T, key K) *T {
	if *m == nil {
		*m = map[K]*T{}
	}
	t := (*m)[key]
	if t == nil {
		t = new(T)
		(*m)[key] = t
	}
	return t
}

func made[T any](p **T) *T {
	if *p == nil {
		*p = new(T)
	}
	return *p
}

func (v *values) onlyExact() bool {
	for i := range v.list {
		if v.list[i].kind != Exact {
			return false
		}
	}
	return true
}

// find appends each T that the client may match.
func (x *index[T]) find(f *facts, to []*T) []*T {
	add := func(t *T) {
		if t != nil {
			to = append(to, t)
		}
	}
	if f.Peer.IsZero() {
		add(x.nobody)
	} else {
		if !f.Peer.id.IsZero() {
			add(x.identities[f.Peer.id])
			add(x.namespaces[f.Peer.id.Namespace])
		} else {
			add(x.uris[f.Peer.uri])
		}
		add(x.domains[f.Peer.domain])
	}
	if x.networks != nil && f.addr.IsValid() {
		lengths := x.lengths[0]
		if f.addr.Is6() {
			lengths = x.lengths[1]
		}
		for _, n := range lengths {
			if p, err := f.addr.Prefix(n); err == nil {
				add(x.networks[p])
			}
		}
	}
	add(x.any)
	return to
}

// each calls do for every T, once.
func (x *index[T]) each(do func(*T)) {
	for _, t := range x.identities {
		do(t)
	}
	for _, t := range x.uris {
		do(t)
	}
	for _, t := range x.namespaces {
		do(t)
	}
	for _, t := range x.domains {
		do(t)
	}
	for _, t := range x.networks {
		do(t)
	}
	for _, t := range []*T{x.nobody, x.any} {
		if t != nil {
			do(t)
		}
	}
}

// order is the place of a rule among all of the Set.
type order struct{ policy, rule int }

func (a order) compare(b order) int {
	return cmp.Or(cmp.Compare(a.policy, b.policy), cmp.Compare(a.rule, b.rule))
}

// entry is a clause of the rule at place.
type entry struct {
	*clause
	place *Place
	order order
}

// judge is clause.fits, and notes the place of a predicate that fails.
func (e *entry) judge(f *facts) bool {
	ok := e.fits(f)
	if f.err != nil {
		if f.failed.Text == "" {
			f.failed = Failed{*e.place, f.err.Error()}
		}
		f.err = nil
	}
	return ok
}

// byPath finds entries by the path or route of a request.
type byPath struct {
	exact    map[string]*[]entry
	prefixes map[string]*[]entry
	lengths  []int // of prefixes
	routes   map[string]*[]entry
	rest     []entry
}

// file adds e to the lists in which requests that it matches look for it.
func (b *byPath) file(e entry, precise bool) {
	put := func(list *[]entry) { *list = append(*list, e) }
	o := e.operation
	if precise && o.routes != nil {
		for name := range o.routes.exact {
			put(under(&b.routes, name))
		}
		return
	}
	for _, v := range []*values{o.paths, o.grpc} {
		if precise && v != nil && v.leads(func(string, bool) {}) {
			v.leads(func(lead string, exact bool) {
				if exact {
					put(under(&b.exact, lead))
					return
				}
				put(under(&b.prefixes, lead))
				if !slices.Contains(b.lengths, len(lead)) {
					b.lengths = append(b.lengths, len(lead))
				}
			})
			return
		}
	}
	put(&b.rest)
}

// keys is how many lists file adds an entry to.
func (o *operation) keys() (n int) {
	for _, v := range []*values{o.routes, o.paths, o.grpc} {
		if v != nil {
			n = max(n, len(v.exact)+len(v.list))
		}
	}
	return max(n, 1)
}

func (b *byPath) finish() {
	slices.Sort(b.lengths)
	sorted := func(list *[]entry) {
		slices.SortStableFunc(*list, func(a, b entry) int { return a.order.compare(b.order) })
	}
	for _, m := range []map[string]*[]entry{b.exact, b.prefixes, b.routes} {
		for _, list := range m {
			sorted(list)
		}
	}
	sorted(&b.rest)
}
