package table

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/histogram"
	"github.com/underlane/underlane/pkg/tap/filter"
	"github.com/underlane/underlane/pkg/tap/render"
)

// Kinds of routes, of which stat has rows, too.
const (
	KindHTTPRoute    filter.Kind = "httproute"
	KindGRPCRoute    filter.Kind = "grpcroute"
	KindTrafficSplit filter.Kind = "trafficsplit"
)

var routeKinds = map[filter.Kind]string{KindHTTPRoute: "HTTPRoute", KindGRPCRoute: "GRPCRoute", KindTrafficSplit: "TrafficSplit"}

// IsRoute reports whether k is a kind of routes.
func IsRoute(k filter.Kind) bool { return routeKinds[k] != "" }

// Via is what the row of a route has of it.
type Via struct {
	Service string // the parent, a TrafficSplit's apex
	Leaf    string // of a TrafficSplit: the backend that the row is of
	Weight  uint32 // of Leaf
}

// RouteRows returns the rows of routes of s.Kind, one for each, and one for each backend of a
// TrafficSplit, by namespace and name. Services of one name in several namespaces are told
// apart as in the routes themselves: the namespace is the route's.
func (s *Stat) RouteRows(list *tapv1alpha1.RouteList) (rows []*StatRow) {
	seconds := list.End.Sub(list.Start).Seconds()
	for i := range list.Items {
		item := &list.Items[i]
		kind, _, _ := strings.Cut(item.Kind, ".") // an HTTPRoute of another group has it in its kind
		if kind != routeKinds[s.Kind] || s.Namespace != "" && item.Namespace != s.Namespace || len(s.Names) > 0 && !slices.Contains(s.Names, item.Name) {
			continue
		}
		row := func(via Via) *StatRow {
			r := &StatRow{Kind: string(s.Kind), Namespace: item.Namespace, Name: item.Name, Via: &via, seconds: seconds}
			rows = append(rows, r)
			return r
		}
		if s.Kind == KindTrafficSplit {
			for _, rule := range item.Rules {
				for _, b := range rule.Backends {
					row(Via{item.Parent.Name, b.Name, b.Weight}).count(b.Total, cmp.Or(rule.CoveredSeconds, seconds))
				}
			}
			continue
		}
		r := row(Via{Service: item.Parent.Name})
		for _, rule := range item.Rules {
			r.count(rule.Total.Effective, cmp.Or(rule.CoveredSeconds, seconds))
		}
	}
	slices.SortStableFunc(rows, func(a, b *StatRow) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Via.Service, b.Via.Service))
	})
	return rows
}

// MissingRoutes returns those of Names that no route has.
func (s *Stat) MissingRoutes(rows []*StatRow) (names []string) {
	for _, name := range s.Names {
		if !slices.ContainsFunc(rows, func(r *StatRow) bool { return r.Name == name }) {
			names = append(names, name)
		}
	}
	return names
}

func (r *StatRow) count(s *tapv1alpha1.Sums, covered float64) {
	sums := sumsOf(s)
	sums.Open, sums.Opened, sums.Closed, sums.Failed, sums.Read, sums.Written = 0, 0, 0, 0, 0, 0
	r.Sums.Add(sums)
	r.requests.add(float64(sums.Requests()), covered)
}

// viaHead and viaCells are the columns of routes: Linkerd's for a TrafficSplit.
func viaHead(kind string) []string {
	if filter.Kind(kind) == KindTrafficSplit {
		return []string{"NAME", "APEX", "LEAF", "WEIGHT"}
	}
	return []string{"NAME", "SERVICE"}
}

func (r *StatRow) viaCells(name string) []string {
	cells := []string{name, render.Clean(r.Via.Service)}
	if filter.Kind(r.Kind) == KindTrafficSplit {
		cells = append(cells, render.Clean(r.Via.Leaf), fmt.Sprint(r.Via.Weight))
	}
	return append(cells, r.requestCells()...)
}

// requestCells are the columns SUCCESS, RPS and LATENCY_….
func (r *StatRow) requestCells() []string {
	part, ok := r.Success()
	if !ok {
		return []string{"-", "-", "-", "-", "-"}
	}
	h := r.Sums.Latency
	if h == nil {
		h = new(histogram.Histogram)
	}
	return []string{
		fmt.Sprintf("%.2f%%", 100*part), fmt.Sprintf("%.1frps", r.Rate(r.Sums.Requests())),
		latency(h.Quantile(0.5)), latency(h.Quantile(0.95)), latency(h.Quantile(0.99)),
	}
}
