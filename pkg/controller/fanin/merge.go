package fanin

import (
	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/tap/filter"
	"github.com/underlane/underlane/pkg/tap/wire"
)

// report is a batch of events from one agent.
type report struct {
	agent int
	batch *agentv1.TapEvents
}

// merger merges the agents' batches into one stream, in the order in which they
// arrive. The events of one agent stay in order, and no agent waits for a slower
// one.
type merger struct {
	limit *filter.Limiter // for all agents together; nil for no limit
}

func newMerger(maxRPS float64) *merger {
	m := &merger{}
	if maxRPS > 0 {
		m.limit = filter.NewLimiter(maxRPS)
	}
	return m
}

// pass returns the part of r that the caller gets, nil when there is none.
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
