package agent

import (
	"context"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/policy/calls"
	"github.com/underlane/underlane/pkg/policy/judged"
	"github.com/underlane/underlane/pkg/state"
	"github.com/underlane/underlane/pkg/tap"
)

// judgedSink tells the Store what became of the calls that policies have judged.
type judgedSink struct{ *calls.Store }

// Emit implements tap.Sink.
func (s judgedSink) Emit(e *tap.Event) {
	if e.Judged == nil {
		return
	}
	switch e.Kind {
	case tap.ResponseEnd:
		if !e.Judged.Finding.Denied && !e.Success() {
			s.Failed(e.Judged)
		}
	case tap.ConnOpen:
		e.Judged.Opened()
	case tap.ConnClose:
		if e.Duration > 0 {
			e.Judged.Closed()
		}
	}
}

// Wants implements tap.Chooser.
func (s judgedSink) Wants(k tap.Kind) bool {
	return k == tap.ResponseEnd || k == tap.ConnOpen || k == tap.ConnClose
}

// decider decides calls that are not made.
type decider struct {
	node  string
	store *state.Store
}

// Decide implements nodeapi.Decider.
func (d decider) Decide(_ context.Context, r *agentv1.DecideRequest) *agentv1.DecideResponse {
	v := d.store.View()
	w, ok := v.WorkloadByUID(r.GetUid())
	if !ok || w.Node != d.node {
		return &agentv1.DecideResponse{Node: d.node, Version: v.Version()}
	}
	out := judged.Decide(w, v.Authz(w.UID), r)
	out.Version = v.Version()
	return out
}
