package agentapi

import (
	"context"
	"net/http"
	"sync"
	"time"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/tap/feed"
	"github.com/underlane/underlane/pkg/tap/filter"
	"github.com/underlane/underlane/pkg/tap/wire"
)

// reopenEvery is the time until a tap that broke is opened again.
const reopenEvery = time.Second

// serveTap streams what all agents see.
func (a *API) serveTap(w http.ResponseWriter, r *http.Request) {
	request, err := readTap(r)
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	out := feed.New(w, r.Header.Get("Accept"))
	defer out.Close()
	if err := out.Start(); err != nil {
		return
	}
	_ = a.Tap(r.Context(), request, out.Send)
}

// readTap reads the request from a call's path and query, and checks it.
func readTap(r *http.Request) (*agentv1.TapRequest, error) {
	request, all, err := tapv1alpha1.ParseQuery(r.URL.Query())
	if err != nil {
		return nil, err
	}
	namespace := r.PathValue("namespace")
	switch kind := r.PathValue("kind"); {
	case kind != "":
		request.Target, request.Namespace = kind+"/"+r.PathValue("name"), namespace
	case all != "":
		request.Target, request.Namespace = all, namespace
	case namespace != "":
		request.Target = "ns/" + namespace
	}
	_, err = filter.New(wire.Filter(request))
	return request, err
}

// Tap gives what all agents see to send, which one agent calls at a time, until ctx ends
// or send fails. It returns the reason. The tap of an agent that does not answer, or ends
// it, is opened again; a warning says so once.
func (a *API) Tap(ctx context.Context, r *agentv1.TapRequest, send func(*agentv1.TapEvents) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var limit *filter.Limiter // for all agents together
	if r.GetMaxRps() > 0 && len(a.Agents) > 1 {
		limit = filter.NewLimiter(r.GetMaxRps())
	}
	var sending sync.Mutex
	give := func(number int, batch *agentv1.TapEvents) {
		if limit != nil {
			admit(limit, number, batch)
		}
		if len(batch.GetEvents()) == 0 && len(batch.GetWarnings()) == 0 && batch.GetLost() == 0 {
			return
		}
		sending.Lock()
		defer sending.Unlock()
		if ctx.Err() != nil {
			return
		}
		if err := send(batch); err != nil {
			cancel(err)
		}
	}
	var wg sync.WaitGroup
	for i, agent := range a.Agents {
		wg.Go(func() { agent.follow(ctx, r, func(batch *agentv1.TapEvents) { give(i, batch) }) })
	}
	wg.Wait()
	return context.Cause(ctx)
}

// admit removes the events of a batch that are above the limit.
func admit(limit *filter.Limiter, agent int, batch *agentv1.TapEvents) {
	kept := batch.Events[:0]
	for _, m := range batch.GetEvents() {
		if e := wire.FromProto(m); limit.Allow(agent, &e) {
			kept = append(kept, m)
		}
	}
	batch.Events = kept
}

// follow taps one agent until ctx ends.
func (a *Agent) follow(ctx context.Context, r *agentv1.TapRequest, give func(*agentv1.TapEvents)) {
	warned := false
	for ctx.Err() == nil {
		err := a.tapOnce(ctx, r, func(batch *agentv1.TapEvents) {
			warned = false
			give(batch)
		})
		if ctx.Err() != nil {
			return
		}
		if !warned {
			warned = true
			give(&agentv1.TapEvents{Warnings: []string{warning(a.Node, a.explain(err)) + ": what happens meanwhile is not shown"}})
		}
		select {
		case <-time.After(reopenEvery):
		case <-ctx.Done():
		}
	}
}

// tapOnce taps until the stream breaks, and returns why.
func (a *Agent) tapOnce(ctx context.Context, r *agentv1.TapRequest, give func(*agentv1.TapEvents)) error {
	stream, err := a.Client.Tap(ctx, r)
	if err != nil {
		return err
	}
	for {
		batch, err := stream.Recv()
		if err != nil {
			return err
		}
		give(batch)
	}
}
