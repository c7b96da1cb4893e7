package observed

import (
	"cmp"
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/http2"
	"github.com/underlane/underlane/pkg/l7proxy/reply"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/observe"
	"github.com/underlane/underlane/pkg/tap"
)

const (
	// maxEvents bounds the events that wait for the controller to say whose their other
	// ends are. While there are half as many, none waits.
	maxEvents = 8192
	// meetTimeout is how old an event becomes at most because of that.
	meetTimeout = 100 * time.Millisecond
)

// event is an event that is not told yet.
type event struct {
	kind    observe.Kind
	request observe.Request
	pod     *mesh.Workload
	at      time.Time // when it happened
}

// hear takes an event of the Watcher.
func (w *Watch) hear(kind observe.Kind, r *observe.Request) {
	pod := w.cookie[r.Flow.Pod]
	if pod == nil || r.Flow.Server && w.watches(r.Flow.Remote.Addr()) {
		return // the client's events say it
	}
	if kind == observe.Answered && w.Wanted != nil && !w.Wanted(tap.ResponseInit) {
		return // the end of the response says the same
	}
	if int(w.queue.length.Load())+len(w.batch) >= maxEvents {
		w.unsaid.Add(1)
		return
	}
	when := r.Began
	switch kind {
	case observe.Answered:
		when = r.Answered
	case observe.Ended:
		when = r.Ended
	}
	w.batch = append(w.batch, event{kind, *r, pod.workload, w.clock.at(when)})
	if len(w.batch) >= maxBatch {
		w.hand()
	}
}

// maxBatch is how many events are handed over at once.
const maxBatch = 64

// queue has the events that are handed over to tell.
type queue struct {
	length atomic.Int64 // with those that tell has taken, and not told yet
	wake   chan struct{}

	mu   sync.Mutex
	list []event
}

// hand hands the events over to tell.
func (w *Watch) hand() {
	if len(w.batch) == 0 {
		return
	}
	q := &w.queue
	q.length.Add(int64(len(w.batch)))
	q.mu.Lock()
	q.list = append(q.list, w.batch...)
	q.mu.Unlock()
	clear(w.batch)
	w.batch = w.batch[:0]
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take takes what there is, and leaves an empty list.
func (q *queue) take(empty []event) []event {
	q.mu.Lock()
	defer q.mu.Unlock()
	list := q.list
	q.list = empty
	return list
}

// tell gives the events to tap, in their order, until ctx is done.
func (w *Watch) tell(ctx context.Context) {
	q := &w.queue
	out := new(tap.Event) // for all of them: no sink keeps it
	for list := []event(nil); ; {
		clear(list)
		list = q.take(list[:0])
		for i := range list {
			e := &list[i]
			translate(e, w.end(ctx, e), out)
			w.Tap.Emit(out)
			q.length.Add(-1)
		}
		if len(list) > 0 {
			continue
		}
		w.ends.forget()
		select {
		case <-ctx.Done():
			return
		case <-q.wake:
		}
	}
}

// clock turns the kernel's times into times of the day.
type clock struct {
	read time.Duration // CLOCK_MONOTONIC
	wall time.Time
}

func (c *clock) set() { c.read, c.wall = monotonic(), time.Now() }

func (c *clock) at(t time.Duration) time.Time { return c.wall.Add(t - c.read) }

// meet waits until the controller has said whose the address is, so that all events of a
// connection name the same one.
func (w *Watch) meet(ctx context.Context, addr netip.Addr, at time.Time) {
	left := meetTimeout - time.Since(at)
	if left <= 0 || w.State.View().Answered(addr) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, left)
	defer cancel()
	_ = w.Controller.Resolve(ctx, addr) // otherwise it stays an address
}

// base begins the numbers of requests that the kernel has seen: those of the proxy are
// below.
const base = 1 << 31

// translate makes of an event one of tap.
func translate(e *event, end *end, out *tap.Event) {
	r, flow := &e.request, e.request.Flow
	own, other := tap.Peer{Addr: flow.Local, Workload: e.pod}, tap.Peer{Addr: flow.Remote, Workload: end.peer}
	*out = tap.Event{
		Origin: tap.FromKernel, Kind: tap.RequestInit, Time: e.at,
		Base: base, Stream: r.ID,
		Source: own, Destination: other, Direction: mesh.Outbound,
		TLS: tap.TLSNotProxied, Protocol: "http1", Scheme: "http",
		Method: r.Method, Authority: r.Authority, Path: r.Path, GRPC: r.GRPC,
	}
	switch {
	case r.GRPC:
		out.Protocol = "grpc"
	case r.HTTP2:
		out.Protocol = "http2"
	}
	if r.Unknown {
		out.Method, out.Path = cmp.Or(r.Method, notKnown), cmp.Or(r.Path, notKnown)
	}
	if flow.Path {
		out.TLS = tap.TLSSameNode
		out.Source.Identity, out.Destination.Identity = identityOf(own.Workload), identityOf(other.Workload)
	}
	if flow.Server {
		out.Source, out.Destination, out.Direction = other, own, mesh.Inbound
	} else {
		out.Service = end.service
		if other.Workload == nil && out.Service == nil {
			out.Outside = tap.Hostname(r.Authority)
		}
	}
	if e.kind == observe.Began {
		return
	}
	out.Kind, out.Status = tap.ResponseInit, r.Status
	if r.Answered > 0 {
		out.Latency = max(0, r.Answered-r.Began)
	}
	if e.kind == observe.Answered {
		return
	}
	out.Kind, out.Duration = tap.ResponseEnd, max(0, r.Ended-r.Began)
	out.ReadBytes, out.WriteBytes = r.RequestBytes, r.ResponseBytes
	if out.Reset, out.ResetCode = r.Reset, r.ResetCode; r.Reset {
		out.Reason = mesh.ReasonReset
	}
	if r.GRPC {
		out.GRPCStatus = reply.FinalGRPCStatus(r.GRPCStatus)
		if r.Reset && r.GRPCStatus < 0 {
			out.GRPCStatus = reply.GRPCOfReset(http2.ErrCode(r.ResetCode))
		}
	}
}

// notKnown stands for a method or path that was not seen: HPACK sent it before the connection
// was observed.
const notKnown = "?"

func identityOf(w *mesh.Workload) mesh.Identity {
	if w == nil {
		return mesh.Identity{}
	}
	return w.Identity
}
