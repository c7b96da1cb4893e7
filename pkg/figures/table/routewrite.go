package table

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/tap/filter"
	"github.com/underlane/underlane/pkg/tap/render"
)

// RouteRow is a row of routes: a rule of a route to a Service. Kind "" stands for requests
// that no route had a say in.
type RouteRow struct {
	Route, Rule, Kind, Service, Namespace string
	Effective                             StatRow
	Requests, Success                     uint64 // attempts
}

// RouteRows returns the rows of the routes to these Services, of all with none.
func RouteRows(list *tapv1alpha1.RouteList, services ...string) (rows []RouteRow) {
	seconds := list.End.Sub(list.Start).Seconds()
	for i := range list.Items {
		item := &list.Items[i]
		if len(services) > 0 && !slices.Contains(services, item.Parent.Name) {
			continue
		}
		for j := range item.Rules {
			rule := &item.Rules[j]
			row := RouteRow{
				Route: item.Name, Rule: rule.Name, Kind: item.Kind, Service: item.Parent.Name, Namespace: item.Parent.Namespace,
				Effective: StatRow{seconds: cmp.Or(rule.CoveredSeconds, seconds)},
			}
			row.Effective.Sums.Add(sumsOf(rule.Total.Effective))
			if a := rule.Total.Actual; a != nil {
				row.Requests, row.Success = a.Requests, a.Success
			}
			rows = append(rows, row)
		}
	}
	return rows
}

// name is the column ROUTE, as Linkerd's [DEFAULT] where there is no route.
func (r *RouteRow) name() string {
	if r.Kind == "" {
		return "[DEFAULT]"
	}
	return render.Clean(r.Route) + "/" + render.Clean(r.Rule)
}

// WriteRoutes writes the rows as a table with Linkerd's columns. wide has the requests as
// clients see them (effective) beside the attempts that they took (actual).
func WriteRoutes(out io.Writer, rows []RouteRow, wide, namespaces bool) error {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	head := []string{"ROUTE", "SERVICE"}
	if namespaces {
		head = append(head, "NAMESPACE")
	}
	if wide {
		head = append(head, "EFFECTIVE_SUCCESS", "EFFECTIVE_RPS", "ACTUAL_SUCCESS", "ACTUAL_RPS")
	} else {
		head = append(head, "SUCCESS", "RPS")
	}
	fmt.Fprintln(w, strings.Join(append(head, "LATENCY_P50", "LATENCY_P95", "LATENCY_P99"), "\t"))
	for i := range rows {
		r := &rows[i]
		cells := []string{r.name(), render.Clean(r.Service)}
		if namespaces {
			cells = append(cells, render.Clean(r.Namespace))
		}
		figures := r.Effective.cells(false, false) // name, meshed, success, rps, latencies, tcp
		cells = append(cells, figures[2:4]...)
		if wide {
			cells = append(cells, r.actual()...)
		}
		fmt.Fprintln(w, strings.Join(append(cells, figures[4:7]...), "\t"))
	}
	return w.Flush()
}

func (r *RouteRow) actual() []string {
	if r.Requests == 0 {
		return []string{"-", "-"}
	}
	return []string{fmt.Sprintf("%.2f%%", 100*float64(r.Success)/float64(r.Requests)), fmt.Sprintf("%.1frps", r.Effective.Rate(r.Requests))}
}

// routeJSON has Linkerd's keys first: success and rps of what is sent to a resource, the
// others of what one sends. Numbers that do not exist are null.
type routeJSON struct {
	Route     string `json:"route"`
	Authority string `json:"authority"` // the Service
	*routeInbound
	*routeOutbound
	LatencyP50 *uint64 `json:"latency_ms_p50"`
	LatencyP95 *uint64 `json:"latency_ms_p95"`
	LatencyP99 *uint64 `json:"latency_ms_p99"`

	Kind      string `json:"kind,omitempty"`
	Namespace string `json:"namespace"`
	Rule      string `json:"rule,omitempty"`
}

type routeInbound struct {
	Success *float64 `json:"success"`
	RPS     *float64 `json:"rps"`
}

type routeOutbound struct {
	EffectiveSuccess *float64 `json:"effective_success"`
	EffectiveRPS     *float64 `json:"effective_rps"`
	ActualSuccess    *float64 `json:"actual_success"`
	ActualRPS        *float64 `json:"actual_rps"`
}

// WriteRoutesJSON writes the rows as Linkerd does: a JSON object whose keys are resources,
// TYPE/NAME, and whose values are arrays of routes. The key is resource, or without one the
// Service of each row. outbound means that the rows are of what a client sends.
func WriteRoutesJSON(out io.Writer, rows []RouteRow, resource string, outbound bool) error {
	all := map[string][]routeJSON{}
	for i := range rows {
		r := &rows[i]
		e := r.Effective.json()
		j := routeJSON{
			Route: r.Route, Authority: r.Service,
			LatencyP50: e.LatencyP50, LatencyP95: e.LatencyP95, LatencyP99: e.LatencyP99, Kind: r.Kind, Namespace: r.Namespace, Rule: r.Rule,
		}
		if r.Kind == "" {
			j.Route = r.name()
		}
		if outbound {
			j.routeOutbound = &routeOutbound{EffectiveSuccess: e.Success, EffectiveRPS: e.RPS}
			if r.Requests > 0 {
				j.ActualSuccess, j.ActualRPS = ptr(float64(r.Success)/float64(r.Requests)), ptr(r.Effective.Rate(r.Requests))
			}
		} else {
			j.routeInbound = &routeInbound{e.Success, e.RPS}
		}
		key := cmp.Or(resource, string(filter.KindService)+"/"+r.Service)
		all[key] = append(all[key], j)
	}
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	return enc.Encode(all)
}
