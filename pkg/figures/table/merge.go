package table

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/figures"
	"github.com/underlane/underlane/pkg/tap/filter"
)

// Pod is a pod that the answer may be about.
type Pod struct {
	figures.End
	Ready    bool
	Selected bool // it has the labels that the query selects
}

// Answers are what the agents say to the Request of a query.
type Answers struct {
	Results []*figures.Result
	Asked   int      // nodes that the caller may know of
	Silent  []string // nodes that have not answered
	// May reports whether the caller may know of a node, which it may not in an answer of
	// one namespace that has no pods there. nil: it may know of all.
	May func(node string) bool
	// Blind means that the pods of the silent nodes are not known. Any resource may have some.
	Blind bool
	// Warnings are sentences, one for each silent node that the caller may know of, and others.
	Warnings []string
}

// nodes counts what the caller may know.
func (a *Answers) nodes() tapv1alpha1.Nodes {
	n := tapv1alpha1.Nodes{Asked: a.Asked, Answered: a.Asked}
	for _, node := range a.Silent {
		if a.May == nil || a.May(node) {
			n.Answered--
		}
	}
	return n
}

// Known is what is known of the mesh beside its traffic.
type Known struct {
	Pods     []Pod
	Services []figures.Service
}

// Merge joins the answers to q, which were asked for at now.
func Merge(q *tapv1alpha1.FiguresQuery, answers *Answers, known *Known, now time.Time) *tapv1alpha1.Figures {
	m := newMerger(q, answers, now)
	if q.By == tapv1alpha1.ByWorkload && (q.Kind == "" || kindOf(q.Kind) == filter.KindService) {
		for _, s := range known.Services {
			if q.Namespace == "" || q.Namespace == s.Namespace {
				m.resource(id{kind: string(filter.KindService), namespace: s.Namespace, name: s.Name})
			}
		}
	}
	var folded, dropped uint64
	others := false
	for _, r := range answers.Results {
		for i := range r.Edges {
			if !m.concerns(&r.Edges[i].Key) {
				others = true
				continue
			}
			m.edge(&r.Edges[i], remembered(r, m.out.Start, m.out.End))
		}
		m.since(r)
		folded, dropped = folded+r.Folded, dropped+r.Dropped
	}
	if others { // how many would tell of the size of other namespaces
		m.out.Warnings = append(m.out.Warnings, fmt.Sprintf("agents speak of pairs that have no part in namespace %s: not shown", q.Namespace))
	}
	switch {
	case folded+dropped == 0:
	case q.Namespace != "": // the numbers are of all namespaces
		m.out.Warnings = append(m.out.Warnings, "agents had more pairs to tell apart than they can: some events are counted without the names of pods or peers, or not at all")
	default:
		m.out.Warnings = append(m.out.Warnings, fmt.Sprintf(
			"agents had more pairs to tell apart than they can: they have counted %d events without the names of pods or peers, and %d not at all", folded, dropped))
	}
	for _, p := range known.Pods {
		m.pod(p)
	}
	return m.finish()
}

// id identifies a resource.
type id struct{ kind, namespace, name string }

// way identifies an edge.
type way struct {
	source, destination id
	service             figures.Service
	protocol, tls       string
}

// joined is an edge that is being summed up.
type joined struct {
	total  figures.Sums
	points []*figures.Sums
	spread spread
	whys   map[string]bool // why it is not secured

	addresses []string // of the destination, sorted
}

type merger struct {
	q         *tapv1alpha1.FiguresQuery
	out       *tapv1alpha1.Figures
	resources map[id]*tapv1alpha1.Resource
	silent    map[string]bool // nodes
	partial   map[id]bool     // resources with pods on silent nodes
	blind     bool            // all resources may be partial
	ways      map[way]*joined
	points    int
}

func newMerger(q *tapv1alpha1.FiguresQuery, answers *Answers, now time.Time) *merger {
	m := &merger{
		q: q, resources: map[id]*tapv1alpha1.Resource{}, silent: map[string]bool{}, partial: map[id]bool{}, ways: map[way]*joined{},
	}
	m.blind = answers.Blind && len(answers.Silent) > 0
	for _, node := range answers.Silent {
		m.silent[node] = true
	}
	until := end(q, now)
	start := until.Add(-q.Window).Truncate(figures.Window)
	if q.Step > 0 {
		m.points = int((until.Sub(start) + q.Step - 1) / q.Step)
	}
	m.out = &tapv1alpha1.Figures{
		Kind: "Figures", APIVersion: tapv1alpha1.GroupVersion, Start: start.UTC(), End: until.UTC(), StepSeconds: int(q.Step / time.Second),
		Nodes:    answers.nodes(),
		Warnings: append([]string{}, answers.Warnings...), Resources: []tapv1alpha1.Resource{}, Edges: []tapv1alpha1.Edge{},
	}
	return m
}

// idOf returns the resource that an end belongs to.
func (m *merger) idOf(e *figures.End) id {
	switch {
	case e.Kind == figures.KindExternal, e.Kind == figures.KindOther, e.Kind == figures.KindNode:
		return id{kind: e.Kind, name: e.Name}
	case m.q.By == tapv1alpha1.ByNamespace:
		return id{kind: figures.KindNamespace, name: cmp.Or(e.Namespace, e.Name)}
	case m.q.By == tapv1alpha1.ByPod && e.Pod != "":
		return id{string(filter.KindPod), e.Namespace, e.Pod}
	}
	return id{e.Kind, e.Namespace, e.Name}
}

func (m *merger) resource(key id) *tapv1alpha1.Resource {
	r := m.resources[key]
	if r == nil {
		r = &tapv1alpha1.Resource{Kind: key.kind, Namespace: key.namespace, Name: key.name}
		m.resources[key] = r
	}
	return r
}

// pod counts a pod in its resource, if the query is about it or an edge has it. The edges
// are there already.
func (m *merger) pod(p Pod) {
	key := m.idOf(&p.End)
	if m.silent[p.Node] {
		m.partial[key] = true
	}
	about := filter.Resource{Namespace: m.q.Namespace}
	if m.q.Kind != "" && kindOf(m.q.Kind) != filter.KindService {
		about.Kind, about.Name = kindOf(m.q.Kind), m.q.Name
		if about.Kind == filter.KindNamespace {
			about.Name, about.Namespace = cmp.Or(about.Name, about.Namespace), ""
		}
	}
	if !p.Is(about) && m.resources[key] == nil {
		return
	}
	r := m.resource(key)
	r.Pods++
	if i, found := slices.BinarySearch(r.Nodes, p.Node); !found && p.Node != "" {
		r.Nodes = slices.Insert(r.Nodes, i, p.Node)
	}
	if p.Meshed {
		r.Meshed++
		m.identify(r, &p.End)
	}
	if p.Ready {
		r.Ready++
	}
	// The caller may not be allowed to see other namespaces, and so not the labels there.
	r.Selected = r.Selected || p.Selected && m.own(p.Namespace)
}

// identify fills in what an end says of its resource.
func (m *merger) identify(r *tapv1alpha1.Resource, e *figures.End) {
	if m.q.By != tapv1alpha1.ByNamespace {
		r.Identity = cmp.Or(r.Identity, e.Identity)
	}
}

// maxAddresses bounds the addresses of an edge. Whoever answers a pod's DNS chooses how many
// a name has.
const maxAddresses = 64

// locate adds an address of a destination whose name is from DNS; "": none.
func (j *joined) locate(address string) {
	if address == "" || len(j.addresses) == maxAddresses {
		return
	}
	if i, found := slices.BinarySearch(j.addresses, address); !found {
		j.addresses = slices.Insert(j.addresses, i, address)
	}
}

// concerns reports whether an edge has a part in the namespace of the query. The agents were
// asked for no others, but the caller may be allowed to see this namespace only.
func (m *merger) concerns(k *figures.Key) bool {
	return m.own(k.Source.Namespace) || m.own(k.Destination.Namespace) || m.own(k.Service.Namespace)
}

func (m *merger) own(namespace string) bool {
	return m.q.Namespace == "" || m.q.Namespace == namespace
}

// edge adds an edge of an agent, which it has counted for these seconds.
func (m *merger) edge(e *figures.Edge, seconds float64) {
	w := way{
		source: m.idOf(&e.Key.Source), destination: m.idOf(&e.Key.Destination),
		service: e.Key.Service, protocol: e.Key.Protocol, tls: e.Key.TLS,
	}
	if e.Key.Destination.Kind == "" {
		w.destination = id{string(filter.KindService), w.service.Namespace, w.service.Name}
		if m.q.By == tapv1alpha1.ByNamespace {
			w.destination = id{kind: figures.KindNamespace, name: w.service.Namespace}
		}
	}
	if m.q.By == tapv1alpha1.ByNamespace {
		w.service = figures.Service{}
	}
	m.identify(m.resource(w.source), &e.Key.Source)
	m.identify(m.resource(w.destination), &e.Key.Destination)
	j := m.ways[w]
	if j == nil {
		j = &joined{points: make([]*figures.Sums, m.points), whys: map[string]bool{}}
		m.ways[w] = j
	}
	j.locate(e.Key.Destination.Address)
	j.whys[unsecured(w.tls, &e.Key.Source, &e.Key.Destination)] = true
	total := e.Total()
	j.total.Add(total)
	j.spread.add(weight(total), seconds)
	for i, p := range e.Points {
		if p == nil || i >= m.points {
			continue
		}
		if j.points[i] == nil {
			j.points[i] = new(figures.Sums)
		}
		j.points[i].Add(p)
	}
}

func (m *merger) since(r *figures.Result) {
	if since := r.Since.UTC(); since.After(m.out.Since) {
		m.out.Since = since
	}
}

// finish numbers the resources and writes the edges, both in the order of their names.
func (m *merger) finish() *tapv1alpha1.Figures {
	number := map[id]int{}
	for _, key := range slices.SortedFunc(maps.Keys(m.resources), compareIDs) {
		r := m.resources[key]
		r.ID = len(m.out.Resources)
		number[key] = r.ID
		out := *r
		out.Partial = m.partial[key]
		if !m.own(namespaceOf(r)) { // the caller may not be allowed to see how large others are
			out.Pods, out.Meshed, out.Ready, out.Nodes, out.Partial = 0, 0, 0, nil, false
		}
		m.out.Resources = append(m.out.Resources, out)
	}
	for _, w := range slices.SortedFunc(maps.Keys(m.ways), compareWays) {
		j := m.ways[w]
		e := tapv1alpha1.Edge{
			Source: number[w.source], Destination: number[w.destination], Addresses: j.addresses, Protocol: w.protocol,
			Secured: w.tls, SecuredWhy: notSecured(&j.total, j.whys, m.blind || m.partial[w.source] || m.partial[w.destination]), Partial: m.isPartial(&w),
			Total: sumsJSON(&j.total, m.q.Buckets), CoveredSeconds: j.spread.told(m.out.End.Sub(m.out.Start).Seconds()),
		}
		if w.service != (figures.Service{}) {
			e.Service = &tapv1alpha1.ServiceName{Namespace: w.service.Namespace, Name: w.service.Name}
		}
		for _, p := range j.points {
			if p == nil {
				e.Points = append(e.Points, nil)
			} else {
				e.Points = append(e.Points, sumsJSON(p, m.q.Buckets))
			}
		}
		m.out.Edges = append(m.out.Edges, e)
	}
	return m.out
}

// isPartial reports whether an agent that may know more of an edge is silent: one of the
// side that counts, or of the other side if that one has no agent.
func (m *merger) isPartial(w *way) bool {
	side, other := w.source, w.destination
	if m.q.Side == tapv1alpha1.SideDestination {
		side, other = other, side
	}
	return m.blind || m.partial[side] || m.partial[other] && (m.resources[side].Kind == figures.KindExternal || m.resources[side].Meshed < m.resources[side].Pods)
}

func compareIDs(a, b id) int {
	return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.namespace, b.namespace), cmp.Compare(a.name, b.name))
}

func compareWays(a, b way) int {
	return cmp.Or(
		compareIDs(a.source, b.source), compareIDs(a.destination, b.destination),
		cmp.Compare(a.service.Namespace, b.service.Namespace), cmp.Compare(a.service.Name, b.service.Name),
		cmp.Compare(a.protocol, b.protocol), cmp.Compare(a.tls, b.tls),
	)
}

func namespaceOf(r *tapv1alpha1.Resource) string {
	if r.Kind == figures.KindNamespace {
		return r.Name
	}
	return r.Namespace
}

func kindOf(text string) filter.Kind {
	r, err := filter.ParseResource(text, "")
	if err != nil {
		return filter.Kind(text)
	}
	return r.Kind
}
