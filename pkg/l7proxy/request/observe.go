package request

import (
	"strings"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
	"github.com/underlane/underlane/pkg/tracing"
)

// Observed collects the fields of a request's head that tracing and access logs need. Its
// strings are those that Add got: they are not used after Session.Observe.
type Observed struct {
	Version            string // of HTTP, as in the request line
	carrier            tracing.Carrier
	userAgent, referer string
}

// Add takes a field. The caller adds all fields of the head.
func (o *Observed) Add(name, value string) {
	o.carrier.Add(name, value)
	switch len(name) {
	case len("user-agent"):
		if strings.EqualFold(name, "user-agent") {
			o.userAgent = value
		}
	case len("referer"):
		if strings.EqualFold(name, "referer") {
			o.referer = value
		}
	}
}

// Observes reports whether Observe has to be called for each request.
func (r *reporter) Observes() bool { return r.Sampling != nil || r.logged() }

func (r *reporter) logged() bool { return r.Logged != nil && r.Logged() }

// Observe sets line.Trace if the request is sampled, and line.Head if that is so or an access
// log may need it.
func (r *reporter) Observe(o *Observed, line *Line) {
	if r.Sampling != nil {
		line.Trace = tracing.Begin(&o.carrier, r.sampling(), r.beginsTraces())
	}
	if line.Trace != nil || r.logged() {
		line.Head = &tap.Head{Version: o.Version, UserAgent: cut(o.userAgent), Referer: cut(o.referer)}
	}
}

func cut(s string) string { return strings.Clone(s[:min(len(s), tap.MaxHeadValue)]) }

// sampling returns the sampling of the pod that the session belongs to: the client outbound,
// the server inbound.
func (r *reporter) sampling() mesh.TraceSampling {
	pod := r.Source.Workload
	if r.Direction == mesh.Inbound {
		pod = r.Target.Peer().Workload
	}
	if pod != nil && pod.Settings.TraceSampling != nil {
		return *pod.Settings.TraceSampling
	}
	return *r.Sampling
}

// beginsTraces reports whether traces may begin at this agent: it is the first that the
// request comes to. If another agent did not sample the request, then this one does not
// either: a trace would lack its beginning.
func (r *reporter) beginsTraces() bool { return r.Direction == mesh.Outbound || r.TLS != tap.TLSTrue }
