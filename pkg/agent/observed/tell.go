package observed

import (
	"context"
	"net/netip"
	"time"

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
	pod := w.byCookie(r.Pod)
	if pod == nil || r.Server && w.watches(r.Remote.Addr()) {
		return // the client's events say it
	}
	when := r.Began
	switch kind {
	case observe.Answered:
		when = r.Answered
	case observe.Ended:
		when = r.Ended
	}
	select {
	case w.events <- event{kind, *r, pod, time.Now().Add(when - monotonic())}:
	default:
		w.unsaid.Add(1)
	}
}

// tell gives the events to tap, in their order.
func (w *Watch) tell(ctx context.Context) {
	for e := range w.events {
		remote := e.request.Remote.Addr()
		w.Controller.Subscribe(remote)
		if len(w.events) < maxEvents/2 {
			w.meet(ctx, remote, e.at)
		}
		out := w.translate(&e)
		w.Tap.Emit(&out)
	}
}

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

func (w *Watch) translate(e *event) tap.Event {
	r, view := &e.request, w.State.View()
	own, other := tap.Peer{Addr: r.Local, Workload: e.pod}, tap.Peer{Addr: r.Remote}
	other.Workload, _ = view.Workload(r.Remote.Addr())
	out := tap.Event{
		Origin: tap.FromKernel, Kind: tap.RequestInit, Time: e.at,
		Base: base, Stream: r.ID,
		Source: own, Destination: other, Direction: mesh.Outbound,
		TLS: tap.TLSNotProxied, Protocol: "http1", Scheme: "http",
		Method: r.Method, Authority: r.Authority, Path: r.Path,
	}
	if r.Server {
		out.Source, out.Destination, out.Direction = other, own, mesh.Inbound
	} else {
		out.Service, _ = view.ServiceVIP(r.Remote.Addr())
		if other.Workload == nil && out.Service == nil {
			out.Outside = tap.Hostname(r.Authority)
		}
	}
	if e.kind == observe.Began {
		return out
	}
	out.Kind, out.Status = tap.ResponseInit, r.Status
	if r.Answered > 0 {
		out.Latency = max(0, r.Answered-r.Began)
	}
	if e.kind == observe.Answered {
		return out
	}
	out.Kind, out.Duration = tap.ResponseEnd, max(0, r.Ended-r.Began)
	out.ReadBytes, out.WriteBytes = r.RequestBytes, r.ResponseBytes
	if out.Reset = r.Reset; r.Reset {
		out.Reason = mesh.ReasonReset
	}
	return out
}
