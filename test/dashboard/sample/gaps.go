package sample

import (
	"time"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
)

// gaps are what the controller's history does not know: in each hour six minutes, in which no
// controller ran, and three minutes of one node. Agents, which remember 15 minutes, know all.
func gaps(s span) (out []tapv1alpha1.Gap, unknown time.Duration) {
	if s.end.Sub(s.start) <= tapv1alpha1.AgentsRemember {
		return nil, 0
	}
	for hour := s.start.Truncate(time.Hour); hour.Before(s.end); hour = hour.Add(time.Hour) {
		for _, g := range []tapv1alpha1.Gap{
			{Start: hour.Add(20 * time.Minute), End: hour.Add(26 * time.Minute)},
			{Start: hour.Add(48 * time.Minute), End: hour.Add(51 * time.Minute), Nodes: []string{silentNode}},
		} {
			if g.Start.Before(s.start) {
				g.Start = s.start
			}
			if g.End.After(s.end) {
				g.End = s.end
			}
			if !g.End.After(g.Start) {
				continue
			}
			out = append(out, g)
			if g.Nodes == nil {
				unknown += g.End.Sub(g.Start)
			}
		}
	}
	return out, unknown
}

// known reports whether something is known of the step at a time.
func known(all []tapv1alpha1.Gap, at time.Time, step time.Duration) bool {
	for _, g := range all {
		if g.Nodes == nil && !at.Before(g.Start) && !at.Add(step).After(g.End) {
			return false
		}
	}
	return true
}
