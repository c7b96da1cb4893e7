// Package table joins what several agents remember into one answer, and makes the rows of
// the commands stat and edges of it. It is pure: the callers ask the agents.
package table

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/figures/wire"
	"github.com/underlane/underlane/pkg/tap/filter"
)

var by = map[string]agentv1.FiguresRequest_By{
	tapv1alpha1.ByPod: agentv1.FiguresRequest_POD, tapv1alpha1.ByWorkload: agentv1.FiguresRequest_WORKLOAD,
	tapv1alpha1.ByNamespace: agentv1.FiguresRequest_NAMESPACE,
}

// Request returns the request to each agent for q, at now. q is complete, as ParseFigures
// leaves it. The error is a mistake of the user.
func Request(q *tapv1alpha1.FiguresQuery, now time.Time) (*agentv1.FiguresRequest, error) {
	r := &agentv1.FiguresRequest{
		By: by[q.By], OfNamespace: q.Namespace, To: q.To, ToNamespace: q.ToNamespace,
		From: q.From, FromNamespace: q.FromNamespace, Protocol: q.Protocol, ServerSide: q.Side == tapv1alpha1.SideDestination,
	}
	switch {
	case q.Kind == "":
	case q.Name == "":
		r.Of = q.Kind
	default:
		r.Of = q.Kind + "/" + q.Name
	}
	of, err := filter.ParseResource(r.Of, "")
	if err == nil && of.Kind == filter.KindNamespace {
		r.OfNamespace = ""
		switch {
		case q.Namespace == "" || q.Namespace == of.Name:
		case of.Name == "":
			r.Of += "/" + q.Namespace
		default: // the caller may be allowed to see q.Namespace only
			return nil, fmt.Errorf("namespace %s is not in namespace %s", of.Name, q.Namespace)
		}
	}
	wire.Times(r, end(q, now), q.Window, q.Step, now)
	if err == nil {
		_, err = wire.Query(r, "", now)
	}
	return r, err
}

func end(q *tapv1alpha1.FiguresQuery, now time.Time) time.Time {
	if q.End.IsZero() || q.End.After(now) {
		return now
	}
	return q.End
}

// InsteadOf returns r for the agents that have answered it, when those of the silent nodes
// have not: for what they report of the calls that the silent ones would count.
func InsteadOf(r *agentv1.FiguresRequest, silent []string) *agentv1.FiguresRequest {
	again := proto.CloneOf(r)
	again.InsteadOf = silent
	return again
}
