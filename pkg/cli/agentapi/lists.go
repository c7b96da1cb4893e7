package agentapi

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/figures"
	"github.com/underlane/underlane/pkg/figures/table"
)

// Resources answers q with what runs on the agents' nodes, and what it uses. Agents know no
// Services by their pods. An agent that does not answer is in the warnings; the error is
// that no agent has answered, or a mistake in q.
func (a *API) Resources(ctx context.Context, q tapv1alpha1.ResourcesQuery) (*tapv1alpha1.ResourceList, error) {
	uses := &table.Uses{Asked: len(a.Agents)}
	if _, err := table.Usage(&q, uses, time.Now()); err != nil { // is it a question?
		return nil, &badRequest{err}
	}
	var silent error
	responses, errs := each(ctx, a.Agents, func(ctx context.Context, c Client) (*agentv1.ResourcesResponse, error) {
		return c.Resources(ctx, &agentv1.ResourcesRequest{})
	})
	for i, err := range errs {
		if err != nil {
			silent = err
			uses.Warnings = append(uses.Warnings, warning(a.Agents[i].Node, err))
			continue
		}
		r := responses[i]
		for _, p := range r.GetPods() {
			uses.Pods = append(uses.Pods, table.UsedPod{UID: p.GetUid(), Pod: table.Pod{Ready: p.GetReady(), End: figures.End{
				Namespace: p.GetNamespace(), Kind: p.GetOwnerKind(), Name: p.GetOwnerName(), Pod: p.GetName(),
				Node: r.GetNode(), Identity: p.GetIdentity(), Meshed: p.GetMeshed(),
			}}})
		}
		uses.AddAnswer(r.GetNode(), r)
	}
	if uses.Answered == 0 && silent != nil {
		return nil, silent
	}
	return table.Usage(&q, uses, time.Now())
}

// Connections answers q with the open connections that the agents know. Its errors are as
// those of Resources.
func (a *API) Connections(ctx context.Context, q tapv1alpha1.ConnectionsQuery) (*tapv1alpha1.ConnectionList, error) {
	q, err := tapv1alpha1.ParseConnections(q.Values())
	if err != nil {
		return nil, &badRequest{err}
	}
	request, err := table.OpenRequest(&q)
	if err != nil {
		return nil, &badRequest{err}
	}
	responses, errs := each(ctx, a.Agents, func(ctx context.Context, c Client) (*agentv1.ConnectionsResponse, error) {
		return c.Connections(ctx, request)
	})
	answers := &table.OpenAnswers{Responses: responses}
	heard := 0
	for i, agent := range a.Agents {
		answers.Nodes = append(answers.Nodes, cmp.Or(agent.Node, responses[i].GetNode()))
		if err = errs[i]; err != nil {
			answers.Warnings = append(answers.Warnings, warning(agent.Node, err))
			responses[i] = nil
			continue
		}
		heard++
	}
	if heard == 0 && err != nil {
		return nil, err
	}
	if q.Node != "" && !slices.Contains(answers.Nodes, q.Node) {
		return nil, &badRequest{fmt.Errorf("node %s: only agents of %s were asked", q.Node, strings.Join(answers.Nodes, ", "))}
	}
	return table.Open(&q, answers, nil, time.Now())
}

func (a *API) serveResources(w http.ResponseWriter, r *http.Request) {
	list(w, r, tapv1alpha1.ParseResources, func(q *tapv1alpha1.ResourcesQuery) *string { return &q.Namespace }, a.Resources)
}

func (a *API) serveConnections(w http.ResponseWriter, r *http.Request) {
	list(w, r, tapv1alpha1.ParseConnections, func(q *tapv1alpha1.ConnectionsQuery) *string { return &q.Namespace }, a.Connections)
}

// list answers one question for a list.
func list[Q, A any](w http.ResponseWriter, r *http.Request, parse func(url.Values) (Q, error), namespace func(*Q) *string, ask func(context.Context, Q) (A, error)) {
	q, err := parse(r.URL.Query())
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	of := namespace(&q)
	*of = cmp.Or(r.PathValue("namespace"), *of)
	answer, err := ask(r.Context(), q)
	reply(w, answer, err)
}
