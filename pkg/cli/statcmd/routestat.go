package statcmd

import (
	"context"
	"errors"
	"fmt"
	"strings"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/figures/table"
	"github.com/underlane/underlane/pkg/tap/filter"
)

// routeNames has all names that kubectl accepts for the kinds of routes.
var routeNames = map[string]filter.Kind{
	"httproute": table.KindHTTPRoute, "httproutes": table.KindHTTPRoute,
	"grpcroute": table.KindGRPCRoute, "grpcroutes": table.KindGRPCRoute,
	"trafficsplit": table.KindTrafficSplit, "trafficsplits": table.KindTrafficSplit, "ts": table.KindTrafficSplit,
}

// resource reads TYPE/NAME or TYPE. A route is one for stat only: it is no end of traffic.
func resource(text string) (filter.Resource, error) {
	text = strings.TrimSuffix(text, "/")
	kind, name, slash := strings.Cut(text, "/")
	route, ok := routeNames[strings.ToLower(kind)]
	if !ok {
		return filter.ParseResource(text, "")
	}
	if !slash {
		return filter.Resource{Kind: route}, nil
	}
	r, err := filter.ParseResource("svc/"+name, "") // for its rules of names
	r.Kind = route
	return r, err
}

// checkRoutes refuses what stat of routes does not know.
func (s *Source) checkRoutes(k *table.Stat) error {
	switch {
	case s.Routes == nil:
		return fmt.Errorf("stat %s: routes are not known here", k.Kind)
	case k.Selector != "":
		return errors.New("--selector: a route has no pods: give the workload that has them")
	case k.To != "":
		return errors.New("--to: a route sends nothing by itself: give the clients by --from")
	case k.Window > tapv1alpha1.AgentsRemember:
		return fmt.Errorf("--time-window %v: agents remember %v, and the controller's history has no routes", k.Window, tapv1alpha1.AgentsRemember)
	}
	return nil
}

// askRoutes asks for the rows of a kind of routes.
func (s *Source) askRoutes(ctx context.Context, k *table.Stat) answer {
	q := tapv1alpha1.FiguresQuery{Namespace: k.Namespace, Window: k.Window, Buckets: true, From: k.From, FromNamespace: k.FromNamespace}
	list, err := s.Routes(ctx, q)
	if err != nil {
		return answer{err: err}
	}
	a := answer{rows: k.RouteRows(list), warnings: list.Warnings}
	for _, name := range k.MissingRoutes(a.rows) {
		text := fmt.Sprintf("there is no %s/%s", k.Kind, name)
		if k.Namespace != "" {
			text += " in namespace " + k.Namespace
		}
		a.missing = append(a.missing, text)
	}
	return a
}
