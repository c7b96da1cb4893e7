package translate

import (
	"fmt"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/route"
)

// A rule of which something is not understood must not be left out: its requests would go
// elsewhere, past a filter, to another backend, or to one that another rule keeps them from. It
// refuses them. What is not understood of a match counts as something that every request fits.

// add appends the rule that read returns, whose problems are in the place where. It refuses
// requests if something is wrong with it beside what it refuses already.
func (d *routeDraft) add(read func(where string) mesh.RouteRule) {
	known, at := len(d.rejected)-d.refusals, len(d.rejected)
	r := read(fmt.Sprintf("rules[%d]", len(d.rules)))
	if len(d.rejected)-d.refusals == known {
		if err := d.check(r); err != nil {
			d.reject(gatewayv1.RouteReasonUnsupportedValue, "rules[%d]: %v", len(d.rules), err)
		}
	}
	if len(d.rejected)-d.refusals > known {
		d.refusals = len(d.rejected) - known
		r = d.closed(r, join(d.rejected[at:]).text)
	}
	d.rules = append(d.rules, r)
}

// closed returns a rule that refuses what r may match.
func (d *routeDraft) closed(r mesh.RouteRule, why string) mesh.RouteRule {
	return route.Closed(r, why, d.check)
}

// check returns what is wrong with a rule by itself.
func (d *routeDraft) check(r mesh.RouteRule) error {
	if len(r.Backends) == 0 && d.egress != nil {
		r.Backends = []mesh.RouteBackend{{Original: true, Weight: 1}}
	}
	err := route.Check(&mesh.Route{GRPC: d.kind == KindGRPCRoute, Layer: d.layer, Egress: d.egress != nil, Rules: []mesh.RouteRule{r}})
	if err != nil {
		return fmt.Errorf("%s", strings.TrimPrefix(err.Error(), "rule 0: "))
	}
	return nil
}

// closeWhole makes all rules of a route refuse if something is wrong with it that is in no rule.
func (d *routeDraft) closeWhole(r *mesh.Route) {
	if len(d.rejected) == d.refusals {
		err := route.Check(r)
		if err == nil {
			return
		}
		d.reject(gatewayv1.RouteReasonUnsupportedValue, "%v", err)
	}
	d.refusals = len(d.rejected)
	why := join(d.rejected).text
	r.Rules = nil
	for _, rule := range d.rules {
		rule = d.closed(rule, why)
		rule.Name = "" // two may have one name
		r.Rules = append(r.Rules, rule)
	}
	if len(r.Rules) == 0 {
		r.Rules = []mesh.RouteRule{{Filters: mesh.RouteFilters{Invalid: why}}}
	}
	if route.Check(r) != nil {
		r.Hostnames = nil // it is they that are not understood
	}
}
