package history

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/controller/fanin"
	"github.com/underlane/underlane/pkg/figures"
	"github.com/underlane/underlane/pkg/figures/wire"
	"github.com/underlane/underlane/pkg/mesh"
)

const (
	// delay is how long after the end of a minute agents are asked for it: their clocks may
	// be apart by two seconds (package wire), and the last window must have ended.
	delay = 5 * time.Second
	// retry is the time between two looks for nodes while none are known, and between the
	// start and the first questions.
	retry = time.Second
	// saveEvery is how often the file is written. What is lost in a crash, agents remember.
	saveEvery = 5 // minutes
	// maxMinutes bounds the minutes of one question, and atOnce the agents that are asked at
	// the same time: both bound the memory that answers take.
	maxMinutes = 5
	atOnce     = 32
	// sameStart is by how much the start of an answer may differ from what was asked for:
	// agents round to their windows by their own clocks.
	sameStart = 15 * time.Second
)

// Collector fills a Store.
type Collector struct {
	Store *Store
	// Nodes returns the nodes whose agents are to be asked, false while they are not known.
	Nodes func() ([]fanin.Node, bool)
	// Ask asks the agents of these nodes. The i-th response or error belongs to the i-th
	// node.
	Ask func(ctx context.Context, nodes []fanin.Node, r *agentv1.FiguresRequest) ([]*agentv1.FiguresResponse, []error)
	// File keeps the Store across restarts; "": nothing does.
	File string
	// Writes reports whether this replica writes the file. nil: it does.
	Writes func() bool
	Log    *slog.Logger

	writes bool // what Writes has said last
}

// Run collects until ctx ends. It reads the file first, and writes it at the end. A file
// that cannot be used is set aside.
func (c *Collector) Run(ctx context.Context) {
	c.load(time.Now())
	for {
		now := time.Now()
		next := now.Add(-delay).Truncate(Minute).Add(Minute + delay)
		timer := time.NewTimer(next.Sub(now))
		if minuteOf(now.Add(-delay)) > c.Store.until() {
			timer.Reset(retry) // the first time: agents remember what was before
		}
		select {
		case <-timer.C:
			last := minuteOf(time.Now().Add(-delay)) - 1
			c.collect(ctx, last)
			if last%saveEvery == 0 && ctx.Err() == nil {
				c.save()
			}
		case <-ctx.Done():
			timer.Stop()
			c.save()
			return
		}
	}
}

// collect asks for what is missing up to the minute last.
func (c *Collector) collect(ctx context.Context, last int64) {
	c.writes = c.Writes == nil || c.Writes()
	all, known := c.Nodes()
	if !known {
		return
	}
	nodes := map[string]fanin.Node{}
	for _, n := range all {
		nodes[n.Name] = n
	}
	c.Store.begin(last, slices.Sorted(maps.Keys(nodes)))
	failed := map[string]bool{}
	// An agent that was away for long is asked several times, because of maxMinutes.
	for range recent/maxMinutes + 1 {
		groups := map[int64][]fanin.Node{}
		for name, first := range c.Store.awaits() {
			if n, ok := nodes[name]; ok && !failed[name] {
				groups[first] = append(groups[first], n)
			}
		}
		for _, first := range slices.Sorted(maps.Keys(groups)) {
			c.ask(ctx, groups[first], first, min(maxMinutes, last+1-first), failed)
		}
		if len(groups) == 0 || ctx.Err() != nil {
			break
		}
	}
	if ctx.Err() != nil {
		return // an agent that could not be asked is not one that is silent
	}
	for minute, silent := range c.Store.missed(last - recent + 1) {
		c.askInstead(ctx, nodes, failed, minute, silent)
	}
	c.Store.finish(last)
}

// ask asks agents for the minutes from first on, and notes which ones fail.
func (c *Collector) ask(ctx context.Context, nodes []fanin.Node, first, minutes int64, failed map[string]bool) {
	p := pending{}
	for batch := range slices.Chunk(nodes, atOnce) {
		for i, a := range c.bothSides(ctx, batch, request(first, minutes, nil)) {
			name := batch[i].Name
			if a.err != nil {
				failed[name] = true
				c.Log.Debug("no figures for the history", "node", name, "err", a.err)
				continue
			}
			c.Store.answered(p, name, first, minutes, a.since, a.edges)
		}
	}
	c.Store.commit(p)
}

// askInstead asks for what others know of the calls of silent nodes in a minute.
func (c *Collector) askInstead(ctx context.Context, nodes map[string]fanin.Node, failed map[string]bool, minute int64, silent []string) {
	var heard []fanin.Node
	for _, name := range slices.Sorted(maps.Keys(nodes)) {
		if !slices.Contains(silent, name) && !failed[name] {
			heard = append(heard, nodes[name])
		}
	}
	p := pending{}
	for batch := range slices.Chunk(heard, atOnce) {
		for i, a := range c.bothSides(ctx, batch, request(minute, 1, silent)) {
			if a.err == nil {
				c.Store.instead(p, minute, batch[i].Name, a.edges)
			}
		}
	}
	c.Store.commit(p)
}

// request asks for minutes, by workload.
func request(first, minutes int64, insteadOf []string) *agentv1.FiguresRequest {
	r := &agentv1.FiguresRequest{By: agentv1.FiguresRequest_WORKLOAD, InsteadOf: insteadOf}
	wire.Times(r, at(first+minutes), time.Duration(minutes)*Minute, Minute, time.Now())
	return r
}

// answer is what one agent has said.
type answer struct {
	err   error
	since int64 // the first minute that the agent remembers whole
	edges []figures.Edge
}

// bothSides asks agents for what both sides report. A request names the side that it
// prefers, and is answered with all reports of that side and some of the other one. Of
// each answer the reports of its own side are taken. Only the answers to a request that
// has InsteadOf are reports of the other side: they stand for the missing ones.
func (c *Collector) bothSides(ctx context.Context, nodes []fanin.Node, r *agentv1.FiguresRequest) []answer {
	out := make([]answer, len(nodes))
	for _, side := range []mesh.Direction{mesh.Outbound, mesh.Inbound} {
		r := proto.CloneOf(r)
		r.ServerSide = side == mesh.Inbound
		responses, errs := c.Ask(ctx, nodes, r)
		for i := range nodes {
			a := &out[i]
			if a.err = errors.Join(a.err, errs[i]); a.err == nil {
				a.err = check(r, responses[i])
			}
			if a.err == nil {
				a.take(wire.FromProto(responses[i]), side, len(r.GetInsteadOf()) > 0)
			}
		}
	}
	return out
}

// check refuses an answer to another question, of an agent that is of another version or
// lies.
func check(r *agentv1.FiguresRequest, m *agentv1.FiguresResponse) error {
	if off := m.GetStart().AsTime().Sub(r.GetStart().AsTime()).Abs(); off > sameStart {
		return errors.New("its answer is of another time")
	}
	if m.GetStep().AsDuration() != r.GetStep().AsDuration() {
		return errors.New("its answer has other steps")
	}
	return nil
}

// take adds the reports of a side.
func (a *answer) take(r *figures.Result, side mesh.Direction, instead bool) {
	a.since = max(a.since, minuteOf(r.Since.Add(Minute-time.Nanosecond)))
	for _, e := range r.Edges {
		switch {
		case instead:
			// The other side knows the Service, or does not; the route is not kept.
			e.Key.Direction, e.Key.Service = side, figures.Service{}
		case e.Key.Direction != side:
			continue
		}
		a.edges = append(a.edges, e)
	}
}

func (c *Collector) load(now time.Time) {
	if c.File == "" {
		return
	}
	err := c.Store.Load(c.File, now)
	switch {
	case errors.Is(err, errForeign):
		aside := c.File + ".broken"
		c.Log.Warn("the history is not used: it begins anew", "err", err, "asideAs", aside, "asideErr", os.Rename(c.File, aside))
	case err != nil:
		c.Log.Warn("the history cannot be read: it begins anew", "err", err)
	}
}

func (c *Collector) save() {
	if c.File == "" || !c.writes {
		return
	}
	if err := c.Store.Save(c.File); err != nil {
		c.Log.Warn("a restart of this controller would lose the history", "err", strings.TrimSpace(err.Error()))
	}
}
