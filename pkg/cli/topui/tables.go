package topui

import (
	"fmt"

	tea "charm.land/bubbletea/v2"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/cli/podtop"
	"github.com/underlane/underlane/pkg/tap"
	"github.com/underlane/underlane/pkg/tap/render"
	"github.com/underlane/underlane/pkg/tap/top"
)

// Events is the message that delivers a batch of events to a Traffic.
type Events struct {
	Events   []tap.Event
	Lost     uint64
	Warnings []string // the last one is shown
}

// Traffic shows a table of requests and connections.
type Traffic struct {
	*top.Table
	warn string // the last warning
}

// Receive implements Table.
func (t *Traffic) Receive(msg tea.Msg) {
	batch, ok := msg.(Events)
	if !ok {
		return
	}
	for i := range batch.Events {
		t.Add(&batch.Events[i])
	}
	t.Lost += batch.Lost
	if n := len(batch.Warnings); n > 0 {
		t.warn = render.Clean(batch.Warnings[n-1])
	}
}

// Lines implements Table.
func (t *Traffic) Lines(order top.Order, mark string) []string {
	return t.Table.Lines(t.Rows(order), order.By, mark)
}

// Columns implements Table.
func (t *Traffic) Columns() top.Column { return top.NumColumns }

// Notes implements Table.
func (t *Traffic) Notes() []string {
	var notes []string
	if n := t.Lost; n > 0 {
		notes = append(notes, fmt.Sprintf("%d events lost: counts are too low", n))
	}
	if n := t.Evicted; n > 0 {
		notes = append(notes, fmt.Sprintf("%d rows dropped (--max-rows)", n))
	}
	if t.warn != "" {
		notes = append(notes, t.warn)
	}
	return notes
}

// Costs is the message that delivers the answers of agents to a Pods.
type Costs struct {
	Costs    []*agentv1.CostsResponse
	Warnings []string
}

// Pods shows what pods cost the agents of their nodes.
type Pods struct {
	*podtop.Table
	warnings []string // of the last message
}

// Receive implements Table.
func (p *Pods) Receive(msg tea.Msg) {
	if costs, ok := msg.(Costs); ok {
		p.Add(costs.Costs...)
		p.warnings = nil
		for _, text := range costs.Warnings {
			p.warnings = append(p.warnings, render.Clean(text))
		}
	}
}

// Notes implements Table.
func (p *Pods) Notes() []string { return p.warnings }
