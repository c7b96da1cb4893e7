package fanin

import (
	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/tap/filter"
	"github.com/underlane/underlane/pkg/tap/wire"
)

// report is a batch of one agent.
type report struct {
	agent int
	batch *agentv1.TapEvents
}

// merger makes one stream of the agents' batches, in the order in which they
// come: what one agent tells stays in order, and nothing waits for a slower one.
type merger struct {
	limit *filter.Limiter // over all agents; nil for none
}

func newMerger(maxRPS float64) *merger {
	m := &merger{}
	if maxRPS > 0 {
		m.limit = filter.NewLimiter(maxRPS)
	}
	return m
}

// pass returns what the caller gets of r, nil when that is nothing.
func (m *merger) pass(r report) *agentv1.TapEvents {
	if m.limit != nil {
		kept := r.batch.Events[:0]
		for _, e := range r.batch.GetEvents() {
			event := wire.FromProto(e)
			if m.limit.Allow(r.agent, &event) {
				kept = append(kept, e)
			}
		}
		r.batch.Events = kept
	}
	if len(r.batch.GetEvents()) == 0 && r.batch.GetLost() == 0 && len(r.batch.GetWarnings()) == 0 {
		return nil
	}
	return r.batch
}
