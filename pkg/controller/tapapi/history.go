package tapapi

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/controller/fanin"
	"github.com/underlane/underlane/pkg/controller/history"
	"github.com/underlane/underlane/pkg/figures"
	"github.com/underlane/underlane/pkg/figures/table"
	"github.com/underlane/underlane/pkg/figures/wire"
	"github.com/underlane/underlane/pkg/tap/filter"
)

// maxHistories bounds the answers from the history that are made at once: each reads all
// steps of its time. Further ones wait.
const maxHistories = 2

// History configures what the controller remembers.
type History struct {
	Bytes int // budget; 0: there is no history
	// File keeps it across restarts; "": nothing does. Leading reports whether this replica
	// writes the file.
	File    string
	Leading func() bool
}

// newCollector returns nil without a history.
func (s *asker) newCollector() *history.Collector {
	h := s.opt.History
	if h.Bytes <= 0 {
		return nil
	}
	return &history.Collector{
		Store: history.NewStore(h.Bytes), File: h.File, Writes: h.Leading, Log: s.opt.Log,
		Nodes: func() ([]fanin.Node, bool) {
			// Before the state of the cluster is known, there are no nodes without being any gone.
			return s.meshedNodes(), s.opt.Cluster.Workloads() != nil
		},
		Ask: func(ctx context.Context, nodes []fanin.Node, r *agentv1.FiguresRequest) ([]*agentv1.FiguresResponse, []error) {
			return s.agents.Figures(ctx, &s.kept, nodes, r)
		},
	}
}

// HistoryStats returns the sizes of the history, false if there is none.
func (s *asker) HistoryStats() (bytes, edges int, ok bool) {
	if s.history == nil {
		return 0, 0, false
	}
	stats := s.history.Store.Stats()
	return stats.Bytes, stats.Edges, true
}

// fromHistory reports whether the history is to answer q: agents do not remember all of
// its time, and it is not about pods, which the history does not know.
func (s *asker) fromHistory(q *tapv1alpha1.FiguresQuery, now time.Time) bool {
	end := q.End
	if end.IsZero() || end.After(now) {
		end = now
	}
	if s.history == nil || now.Sub(end)+q.Window <= tapv1alpha1.AgentsRemember || q.By == tapv1alpha1.ByPod {
		return false
	}
	for _, text := range []string{q.Kind, q.To, q.From} {
		if r, err := filter.ParseResource(text, ""); err == nil && r.Kind == filter.KindPod {
			return false
		}
	}
	return true
}

// askHistory answers q, which request belongs to. It sets the times of q to those of the
// answer.
func (s *asker) askHistory(ctx context.Context, q *tapv1alpha1.FiguresQuery, request *agentv1.FiguresRequest, known *table.Known, now time.Time) (*tapv1alpha1.Figures, error) {
	select {
	case s.histories <- struct{}{}:
		defer func() { <-s.histories }()
	case <-ctx.Done():
		return nil, failure(http.StatusTooManyRequests, metav1.StatusReasonTooManyRequests, "too many questions for the history are being answered: try again")
	}
	asked, err := wire.Query(request, "", now)
	if err != nil {
		return nil, err
	}
	end := q.End
	if end.IsZero() || end.After(now) {
		end = now
	}
	a := s.history.Store.Query(history.Query{Start: end.Add(-q.Window), End: end, Step: q.Step, Group: asked.Group})
	if q.Step > 0 {
		q.Step = a.Step
	}
	q.End, q.Window = a.End, a.End.Sub(a.Start)
	answers := &table.Answers{Results: []*figures.Result{&a.Result}, Asked: a.Asked, May: s.mayKnow(q.Namespace)}
	answers.Warnings = historyWarnings(a, answers.May)
	told := 0
	for _, silent := range a.Silent {
		answers.Silent = append(answers.Silent, silent.Node)
		if answers.May == nil || answers.May(silent.Node) {
			told++
		}
	}
	if answers.May != nil {
		answers.Asked = countKnown(s.meshedNodes(), answers.May)
	}
	answers.Asked = max(answers.Asked, told)
	out := table.Merge(q, answers, known, now)
	out.History, out.CoveredSeconds = true, int(a.Covered/time.Second)
	for _, gap := range a.Gaps {
		nodes := gap.Nodes
		if answers.May != nil {
			nodes = slices.DeleteFunc(slices.Clone(nodes), func(n string) bool { return !answers.May(n) })
			if len(nodes) == 0 && len(gap.Nodes) > 0 {
				continue // without nodes it would say that nothing is known
			}
		}
		out.Gaps = append(out.Gaps, tapv1alpha1.Gap{Start: gap.Start, End: gap.End, Nodes: nodes})
	}
	return out, nil
}

// historyWarnings are sentences about what is missing in an answer. may is that of
// table.Answers.
func historyWarnings(a *history.Answer, may func(string) bool) (out []string) {
	unnamed := false
	for _, silent := range a.Silent {
		if may != nil && !may(silent.Node) {
			unnamed = true
			continue
		}
		out = append(out, fmt.Sprintf("%s: for up to %v of this time its agent was not heard, or said more than there is room for", silent.Node, silent.For))
	}
	if unnamed {
		out = append(out, unnamedSilent)
	}
	if a.Trimmed.After(a.Start) {
		out = append(out, fmt.Sprintf("the history is full and reaches back to %s only: give the controller more room (controller.history.bytes)", a.Since.Format(time.RFC3339)))
	}
	switch {
	case a.Folded+a.Dropped == 0:
	case may != nil: // the numbers are of all namespaces
		out = append(out, "the history had more pairs to tell apart than it can: some requests and connections are counted without the names of peers, or not at all")
	default:
		out = append(out, fmt.Sprintf("the history had more pairs to tell apart than it can: it has counted %d requests and connections without the names of peers, and %d not at all", a.Folded, a.Dropped))
	}
	return out
}
