package table

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/figures"
	"github.com/underlane/underlane/pkg/mesh"
)

// KnownRoutes is what is known of the routes that an answer may be about.
type KnownRoutes struct {
	Routes   []*mesh.Route
	Services []*mesh.Service // with the workloads of their endpoints
}

// MergeRoutes joins the answers to q, whose request was made with Routes set, by routes.
func MergeRoutes(q *tapv1alpha1.FiguresQuery, answers *Answers, known *KnownRoutes, now time.Time) *tapv1alpha1.RouteList {
	until := end(q, now)
	out := &tapv1alpha1.RouteList{
		Kind: "RouteList", APIVersion: tapv1alpha1.GroupVersion, Start: until.Add(-q.Window).Truncate(figures.Window).UTC(), End: until.UTC(),
		Nodes:    answers.nodes(),
		Warnings: append([]string{}, answers.Warnings...), Items: []tapv1alpha1.Route{},
	}
	sums := routeSums{}
	spreads := map[routed]*spread{}
	for _, r := range answers.Results {
		for i := range r.Edges {
			sums.add(&r.Edges[i])
			key := routed{r.Edges[i].Key.Service, r.Edges[i].Key.Route}
			if spreads[key] == nil {
				spreads[key] = new(spread)
			}
			spreads[key].add(weight(r.Edges[i].Total()), remembered(r, out.Start, out.End))
		}
	}
	covered := func(key routed) float64 {
		if s := spreads[key]; s != nil {
			return s.told(out.End.Sub(out.Start).Seconds())
		}
		return 0
	}
	workloads := map[figures.Service]map[id]bool{}
	for _, s := range known.Services {
		workloads[figures.Service{Namespace: s.Namespace, Name: s.Name}] = workloadsOf(s)
	}
	parents := map[figures.Service]bool{}
	for key, by := range sums {
		if key.route == (figures.Route{}) && (q.Namespace == "" || q.Namespace == key.service.Namespace) && requested(by) {
			parents[key.service] = true
		}
	}
	for _, r := range known.Routes {
		if q.Namespace != "" && q.Namespace != r.Namespace && q.Namespace != r.Parent.Namespace {
			continue
		}
		parent := figures.Service{Namespace: r.Parent.Namespace, Name: r.Parent.Name}
		parents[parent] = true
		item := tapv1alpha1.Route{Kind: r.Kind, Namespace: r.Namespace, Name: r.Name, Parent: tapv1alpha1.ServiceName(parent), Rules: []tapv1alpha1.RouteRule{}}
		for i := range r.Rules {
			rule, key := ruleOf(r, i, sums, workloads, q.Buckets)
			rule.CoveredSeconds = covered(key)
			item.Rules = append(item.Rules, rule)
		}
		out.Items = append(out.Items, item)
	}
	// What no route had a say in: of the Services that have routes, and of those that were called.
	for parent := range parents {
		rule := tapv1alpha1.RouteRule{Matches: []string{}, Backends: []tapv1alpha1.RouteBackend{}, Total: sums.total(routed{service: parent}, q.Buckets), CoveredSeconds: covered(routed{service: parent})}
		out.Items = append(out.Items, tapv1alpha1.Route{
			Namespace: parent.Namespace, Parent: tapv1alpha1.ServiceName(parent), Rules: []tapv1alpha1.RouteRule{rule},
		})
	}
	slices.SortStableFunc(out.Items, func(a, b tapv1alpha1.Route) int {
		return cmp.Or(cmp.Compare(a.Parent.Namespace, b.Parent.Namespace), cmp.Compare(a.Parent.Name, b.Parent.Name),
			last(a.Kind == "", b.Kind == ""), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Kind, b.Kind))
	})
	return out
}

// last sorts what is true after what is not.
func last(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// routed identifies the requests of one rule to one Service.
type routed struct {
	service figures.Service
	route   figures.Route
}

// routeSums has the sums of each rule, by the workloads that the requests went to.
type routeSums map[routed]map[id]*figures.Sums

func (s routeSums) add(e *figures.Edge) {
	if e.Key.Service == (figures.Service{}) {
		return
	}
	key := routed{e.Key.Service, e.Key.Route}
	if s[key] == nil {
		s[key] = map[id]*figures.Sums{}
	}
	to := id{e.Key.Destination.Kind, e.Key.Destination.Namespace, e.Key.Destination.Name}
	if s[key][to] == nil {
		s[key][to] = new(figures.Sums)
	}
	s[key][to].Add(e.Total())
}

// requested reports whether there are requests.
func requested(by map[id]*figures.Sums) bool {
	for _, s := range by {
		if s.Requests() > 0 {
			return true
		}
	}
	return false
}

func (s routeSums) total(key routed, buckets bool) tapv1alpha1.RouteTotal {
	all := new(figures.Sums)
	for _, sums := range s[key] {
		all.Add(sums)
	}
	effective := sumsJSON(all, buckets)
	effective.TCP = nil
	// Each retry follows an attempt that failed.
	actual := &tapv1alpha1.Sums{Requests: all.Requests() + all.Retries, Success: all.Success}
	for name, n := range effective.Failures {
		if actual.Failures == nil {
			actual.Failures = map[string]uint64{}
		}
		actual.Failures[name] = n
	}
	if all.Retries > 0 {
		if actual.Failures == nil {
			actual.Failures = map[string]uint64{}
		}
		actual.Failures[tapv1alpha1.ReasonRetried] = all.Retries
	}
	return tapv1alpha1.RouteTotal{Effective: effective, Actual: actual}
}

// to returns what went to one of these workloads.
func (s routeSums) to(key routed, workloads map[id]bool, buckets bool) *tapv1alpha1.Sums {
	some := new(figures.Sums)
	for to, sums := range s[key] {
		if workloads[to] {
			some.Add(sums)
		}
	}
	if some.Requests() == 0 {
		return nil
	}
	return sumsJSON(some, buckets)
}

func workloadsOf(s *mesh.Service) map[id]bool {
	all := map[id]bool{}
	for _, p := range s.Ports {
		for _, e := range p.Endpoints {
			if w := e.Workload; w != nil {
				all[id{w.OwnerKind, w.Namespace, w.OwnerName}] = true
			}
		}
	}
	return all
}

func ruleOf(r *mesh.Route, index int, sums routeSums, workloads map[figures.Service]map[id]bool, buckets bool) (tapv1alpha1.RouteRule, routed) {
	rule := &r.Rules[index]
	name := cmp.Or(rule.Name, strconv.Itoa(index))
	key := routed{figures.Service{Namespace: r.Parent.Namespace, Name: r.Parent.Name}, figures.Route{Kind: r.Kind, Namespace: r.Namespace, Name: r.Name, Rule: name}}
	out := tapv1alpha1.RouteRule{
		Name: name, Matches: matchTexts(rule.Matches), Backends: []tapv1alpha1.RouteBackend{},
		Timeouts: timeoutText(rule.Timeouts), Retries: retryText(rule.Retry), Total: sums.total(key, buckets),
	}
	for i := range rule.Backends {
		b := &rule.Backends[i]
		service := figures.Service{Namespace: b.Service.Namespace, Name: b.Service.Name}
		out.Backends = append(out.Backends, tapv1alpha1.RouteBackend{
			Namespace: service.Namespace, Name: service.Name, Weight: b.Weight, Invalid: b.Invalid, Total: sums.to(key, workloads[service], buckets),
		})
	}
	return out, key
}
