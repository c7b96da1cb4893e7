package why

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap/filter"
)

// Recent is the query for Facts.Recent.
func Recent(q *tapv1alpha1.WhyQuery) tapv1alpha1.FiguresQuery {
	by := tapv1alpha1.ByWorkload
	for _, text := range []string{q.From, q.To} {
		if r, err := filter.ParseResource(text, ""); err == nil && r.Kind == filter.KindPod {
			by = tapv1alpha1.ByPod
		}
	}
	return tapv1alpha1.FiguresQuery{
		By: by, From: q.From, FromNamespace: q.Namespace, To: q.To, ToNamespace: cmp.Or(q.ToNamespace, q.Namespace),
		Side: tapv1alpha1.SideSource, Window: time.Minute,
	}
}

// recent says what the last minute looked like.
func (x *inquiry) recent() tapv1alpha1.WhyStep {
	f := x.facts.Recent
	if f == nil {
		return step("recent", tapv1alpha1.WhyUnknown, "What the last minute looked like is not known: %s.", cmp.Or(x.facts.RecentErr, "no agent was asked"))
	}
	var requests, success, opened, failed uint64
	failures := map[string]uint64{}
	p99 := 0.0
	secured := map[string]bool{}
	for _, e := range f.Edges {
		if e.Total == nil {
			continue
		}
		secured[e.Secured] = true
		requests += e.Total.Requests
		success += e.Total.Success
		for reason, n := range e.Total.Failures {
			failures[reason] += n
		}
		if l := e.Total.Latency; l != nil {
			p99 = max(p99, l.P99)
		}
		if t := e.Total.TCP; t != nil {
			opened, failed = opened+t.Opened, failed+t.Failed
		}
	}
	s := step("recent", tapv1alpha1.WhyOK, "There was no call in the last minute.")
	byMesh := uint64(0)
	switch {
	case requests > 0:
		s.Text = fmt.Sprintf("In the last minute %s ended, %.1f %% of them successful, the 99th percentile of their latency is at most %.1f ms.",
			plural(int(requests), "request", "requests"), 100*float64(success)/float64(requests), p99)
	case opened+failed > 0:
		s.Text = fmt.Sprintf("In the last minute %s opened, and %d failed.", plural(int(opened), "connection was", "connections were"), failed)
	}
	for _, reason := range slices.Sorted(maps.Keys(failures)) {
		worsen(&s, tapv1alpha1.WhyWarning)
		text := mesh.ParseReason(reason).Text()
		if reason == tapv1alpha1.ReasonStatus {
			text = "the application's own answer"
		} else {
			byMesh += failures[reason]
		}
		say(&s, "%d failed with %s: %s", failures[reason], reason, text)
	}
	if requests > 0 && byMesh == requests || requests == 0 && opened == 0 && failed > 0 {
		s.Result = tapv1alpha1.WhyProblem
	}
	for tls := range secured {
		if tls != "" {
			say(&s, "secured: %s", tls)
		}
	}
	slices.Sort(s.Evidence)
	for _, text := range f.Warnings {
		worsen(&s, tapv1alpha1.WhyWarning)
		say(&s, "%s", text)
	}
	return s
}
