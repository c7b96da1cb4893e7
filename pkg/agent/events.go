package agent

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/redirect"
	"github.com/underlane/underlane/pkg/tap"
)

// readKernelEvents reports to tap the connections that no proxy carries, from the
// kernel's events.
func (a *components) readKernelEvents(ctx context.Context) error {
	// The ring buffer may have events of pods that an earlier agent enrolled: wait
	// until this agent knows those pods.
	select {
	case <-a.pods.Reconciled():
	case <-ctx.Done():
		return nil
	}
	heard := make(chan kernelEvent, maxHeard)
	var telling sync.WaitGroup
	telling.Go(func() {
		for h := range heard {
			if len(heard) < maxHeard/2 {
				a.meet(ctx, &h)
			}
			event := a.translate(&h.event, h.pod)
			event.Time = h.at
			a.hub.Emit(&event)
		}
	})
	defer telling.Wait()
	defer close(heard)
	return a.datapath.ReadEvents(ctx, func(e *redirect.Event) {
		if e.ByPath && e.Server {
			return // the client's events count for both sides, as those of the proxy do
		}
		pod := a.carrier.ByCookie(e.NetnsCookie)
		if pod == nil {
			pod = a.watch.Reports(e)
		}
		if pod != nil {
			if !e.FromNode {
				a.client.Subscribe(e.Remote.Addr()) // no proxy does
			}
			if e.ByPath && e.Kind == redirect.EventFailed {
				a.paths.Failed(pod.UID, e.Remote)
			}
			heard <- kernelEvent{*e, pod, time.Now()}
		}
	})
}

// kernelEvent is an event of the kernel that is not reported yet.
type kernelEvent struct {
	event redirect.Event
	pod   *mesh.Workload
	at    time.Time
}

const (
	// maxHeard bounds these events. While it is half full, none waits for the controller.
	maxHeard = 4096
	// meetTimeout is how old an event becomes at most because the controller is slow to say
	// whose the other end's address is.
	meetTimeout = 100 * time.Millisecond
)

// meet waits until the controller has said whose the address of an event's other end is, so
// that all events of the connection name the same one.
func (a *components) meet(ctx context.Context, h *kernelEvent) {
	left := meetTimeout - time.Since(h.at)
	if h.event.FromNode || left <= 0 || a.store.View().Answered(h.event.Remote.Addr()) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, left)
	defer cancel()
	_ = a.client.Resolve(ctx, h.event.Remote.Addr()) // otherwise it stays an address
}

// translate makes a tap event of a kernel event of a pod. The source of the tap event
// is the side that connected.
func (a *components) translate(e *redirect.Event, pod *mesh.Workload) tap.Event {
	view := a.store.View()
	own := tap.Peer{Addr: e.Local, Workload: pod}
	other := tap.Peer{Addr: e.Remote}
	if other.Workload, _ = view.Workload(e.Remote.Addr()); e.FromNode {
		other.Workload = a.itself
	}
	out := tap.Event{
		Origin: tap.FromKernel, Kind: tap.ConnClose, Time: time.Now(),
		Source: own, Destination: other, Direction: mesh.Outbound,
		TLS: tap.TLSNotProxied, Protocol: "tcp",
		Process: e.Process, SRTT: e.SRTT, MinRTT: e.MinRTT, Retransmits: e.Retransmits,
		Duration: e.Duration, ReadBytes: e.Sent, WriteBytes: e.Received,
	}
	if e.ByPath {
		out.TLS = tap.TLSSameNode
		out.Destination.Addr = e.Endpoint
		out.Destination.Workload, _ = view.Workload(e.Endpoint.Addr())
		out.Source.Identity, out.Destination.Identity = identityOf(pod), identityOf(out.Destination.Workload)
	}
	if e.Server {
		out.Source, out.Destination, out.Direction = other, own, mesh.Inbound
		out.ReadBytes, out.WriteBytes = e.Received, e.Sent
	}
	out.Service, _ = view.ServiceVIP(e.Remote.Addr())
	if !e.Server && e.Kind != redirect.EventClose && other.Workload == nil && out.Service == nil {
		// The close has it from the table of open connections.
		out.DNS = a.names.Name(pod, e.Remote.Addr())
	}
	switch e.Kind {
	case redirect.EventConnect, redirect.EventAccept:
		out.Kind = tap.ConnOpen
	case redirect.EventRefused:
		out.Reason, out.Duration = mesh.ReasonFailClosed, 0
		if out.Source.Addr.Port() == 0 {
			out.Source.Addr = netip.AddrPortFrom(firstOf(pod.Addrs, e.Remote.Addr()), 0)
		}
	default:
		if e.Kind == redirect.EventFailed {
			out.Duration = 0 // it was never open
		}
		out.Reason = kernelReason(e.Err, e.Kind)
		if e.ByPath && errors.Is(e.Err, unix.ECONNABORTED) {
			out.Reason = mesh.ReasonPolicyDenied // the table of paths has cut it
		}
		out.Reset = out.Reason != mesh.ReasonNone
	}
	return out
}

func identityOf(w *mesh.Workload) mesh.Identity {
	if w == nil {
		return mesh.Identity{}
	}
	return w.Identity
}

func firstOf(addrs []netip.Addr, like netip.Addr) netip.Addr {
	for _, a := range addrs {
		if a.Is4() == like.Is4() {
			return a
		}
	}
	return netip.Addr{}
}

func kernelReason(err error, kind redirect.EventKind) mesh.Reason {
	switch {
	case err == nil && kind == redirect.EventClose:
		return mesh.ReasonNone
	case errors.Is(err, unix.ECONNREFUSED):
		return mesh.ReasonRefused
	case errors.Is(err, unix.ECONNRESET), errors.Is(err, unix.EPIPE):
		return mesh.ReasonReset
	case err == nil:
		return mesh.ReasonReset // the application gave up connecting
	}
	return mesh.ReasonUnreachable
}
