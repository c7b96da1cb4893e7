// Package render writes events as lines for people, in the format of
// `linkerd viz tap`, and as JSON for programs. It is pure.
package render

import (
	"cmp"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
	"github.com/underlane/underlane/pkg/tap"
)

// Line appends e to dst as one line, without a newline at the end. Requests look
// exactly as Linkerd prints them, with the reason of a failure at the end;
// connections are in the same style. wide adds details of both ends and of the
// route.
func Line(dst []byte, e *tap.Event, wide bool) []byte {
	l := line(dst)
	l.str(verb(e)).str(" id=").uint(uint64(e.Base)).str(":").uint(e.Stream)
	if e.Direction == mesh.Inbound {
		l.str(" proxy=in ") // padded to the width of out
	} else {
		l.str(" proxy=out")
	}
	l.str(" src=").addr(e.Source.Addr).str(" dst=").addr(e.Destination.Addr).str(" tls=").str(e.TLS)
	switch e.Kind {
	case tap.RequestInit:
		l.str(" :method=").str(e.Method).str(" :authority=").str(e.Authority).str(" :path=").str(e.Path)
	case tap.ResponseInit:
		l.str(" :status=").uint(uint64(e.Status)).str(" latency=").micros(e.Latency)
	case tap.ResponseEnd:
		l.responseEnd(e)
	case tap.ConnOpen, tap.LegOpen:
		l.pair("leg", e.Side.String()).pair("sni", e.SNI).pair("dns", e.DNS).pair("process", e.Process)
	case tap.ConnClose, tap.LegClose:
		l.pair("leg", e.Side.String()).connClose(e)
	}
	if wide {
		l.split(e).asked(e).legs(e.Legs)
		l.labels("src", &e.Source).labels("dst", &e.Destination).route(e)
	}
	l.pair("reason", e.Reason.String())
	l.judged(e)
	return l
}

// judged appends what the policies have decided, if they refused the call or ask to report
// it. Names are written as KIND/NAMESPACE/NAME.
func (l *line) judged(e *tap.Event) {
	if e.Judged == nil || e.Kind == tap.RequestInit || e.Kind == tap.ResponseInit {
		return
	}
	name := func(object string) string { return strings.ReplaceAll(authz.ShortName(object), " ", "/") }
	f := e.Judged.Finding
	switch {
	case f.Denied:
		l.pair("denied-by", cmp.Or(name(f.Object), f.Why.String())).pair("rule", f.Rule)
	case f.Audited():
		l.pair("audited-by", name(f.Audit)).pair("would-be-denied-by", name(f.WouldDeny))
	}
	if f.Failed != "" {
		l.pair("expression-failed", strconv.Quote(authz.ShortName(f.Failed)))
	}
}

// verb returns the first word of a line, which says what happened.
func verb(e *tap.Event) string {
	switch e.Kind {
	case tap.RequestInit:
		return "req"
	case tap.ResponseInit:
		return "rsp"
	case tap.ResponseEnd:
		return "end"
	case tap.ConnOpen, tap.LegOpen:
		return "open"
	case tap.ConnClose, tap.LegClose:
		return closeVerb(e)
	}
	return "unknown"
}

func closeVerb(e *tap.Event) string {
	switch e.Reason {
	case mesh.ReasonNone:
		return "close"
	case mesh.ReasonRefused, mesh.ReasonConnectRefused:
		return "refused"
	case mesh.ReasonReset, mesh.ReasonUpstreamReset, mesh.ReasonClientReset, mesh.ReasonPodGone:
		return "reset"
	case mesh.ReasonPolicyDenied, mesh.ReasonNoIdentity, mesh.ReasonFailClosed:
		return "denied"
	case mesh.ReasonUnreachable, mesh.ReasonConnectTimeout:
		return "unreachable"
	}
	return "failed"
}

type line []byte

// responseEnd appends the end of a response. As in Linkerd, the duration is the
// time from the response's head to its end.
func (l *line) responseEnd(e *tap.Event) {
	switch {
	case e.Reset:
		l.str(" reset-error=").uint(uint64(e.ResetCode))
	case e.GRPC:
		l.str(" grpc-status=").str(codes.Code(e.GRPCStatus).String())
	}
	l.str(" duration=").micros(max(0, e.Duration-e.Latency))
	l.str(" response-length=").uint(e.WriteBytes).str("B")
}

// connClose appends the end of a connection. sent and received are as seen by the
// client. A connection that never opened has no numbers.
func (l *line) connClose(e *tap.Event) {
	l.pair("sni", e.SNI).pair("dns", e.DNS).pair("process", e.Process)
	if e.Duration == 0 && e.Reason != mesh.ReasonNone {
		return
	}
	l.str(" duration=").micros(e.Duration)
	l.str(" sent=").uint(e.ReadBytes).str("B received=").uint(e.WriteBytes).str("B")
	if e.Origin == tap.FromKernel || e.SRTT > 0 {
		l.str(" srtt=").micros(e.SRTT).str(" retransmits=").uint(uint64(e.Retransmits))
	}
}

// split appends where the time of a call went, without the parts that took none. Events
// before the end of a request have no split yet.
func (l *line) split(e *tap.Event) *line {
	s := e.Split
	if e.Kind == tap.RequestInit || e.Kind == tap.ResponseInit || s == (tap.Split{}) {
		return l
	}
	l.str(" split=")
	sep := ""
	for _, part := range [...]struct {
		name string
		time time.Duration
	}{
		{"queue", s.Queue}, {"connect", s.Connect}, {"tls", s.TLS}, {"first-byte", s.FirstByte}, {"body", s.Body},
	} {
		if part.time > 0 {
			l.str(sep).str(part.name).str(":").micros(part.time)
			sep = ","
		}
	}
	return l
}

// asked appends for how long an external authorizer was asked.
func (l *line) asked(e *tap.Event) *line {
	if e.Kind != tap.ResponseEnd || e.Asked == 0 {
		return l
	}
	return l.str(" asked=").micros(e.Asked)
}

// legs appends what the kernel knew of the agent's connections with the client and with
// the server.
func (l *line) legs(legs *tap.Legs) *line {
	if legs == nil {
		return l
	}
	return l.leg("client", &legs.Client).leg("server", &legs.Server)
}

func (l *line) leg(name string, leg *tap.Leg) *line {
	if *leg == (tap.Leg{}) {
		return l
	}
	l.str(" ").str(name).str("=srtt:").micros(leg.SRTT).str(",retransmits:").uint(uint64(leg.Retransmits))
	l.str(",received:").uint(leg.Received).str("B,sent:").uint(leg.Sent).str("B")
	if leg.Unread > 0 {
		l.str(",unread:").micros(leg.Unread)
	}
	return l
}

func (l *line) labels(end string, p *tap.Peer) *line {
	for _, kv := range Labels(p) {
		l.pair(end+"_"+kv[0], kv[1])
	}
	return l
}

func (l *line) route(e *tap.Event) *line {
	l.pair("rt_protocol", e.Protocol)
	if e.Service != nil {
		l.pair("rt_service", e.Service.Name).pair("rt_service_ns", e.Service.Namespace)
	}
	if r := e.Route; r != nil {
		l.pair("rt_route", r.Name).pair("rt_route_ns", r.Namespace).pair("rt_kind", r.Kind).pair("rt_rule", e.Rule)
	}
	if e.Retries > 0 {
		l.str(" retries=").uint(uint64(e.Retries))
	}
	return l
}

// pair appends " key=value", or nothing if the value is empty.
func (l *line) pair(key, value string) *line {
	if value == "" {
		return l
	}
	return l.str(" ").str(key).str("=").str(value)
}

// str appends s, cleaned as by Clean.
func (l *line) str(s string) *line {
	*l = AppendClean(*l, s)
	return l
}

func (l *line) uint(n uint64) *line {
	*l = strconv.AppendUint(*l, n, 10)
	return l
}

func (l *line) micros(d time.Duration) *line {
	*l = strconv.AppendInt(*l, d.Microseconds(), 10)
	return l.str("µs")
}

func (l *line) addr(a netip.AddrPort) *line {
	if !a.IsValid() {
		return l.str("-")
	}
	*l = a.AppendTo(*l)
	return l
}

// Labels returns what is known about one end as pairs of name and value, sorted
// by name: deployment (or another kind of owner), identity, node, ns, pod, sa.
func Labels(p *tap.Peer) [][2]string {
	identity := [2]string{"identity", p.Identity.String()}
	w := p.Workload
	if w == nil {
		if identity[1] == "" {
			return nil
		}
		return [][2]string{identity}
	}
	all := [][2]string{identity, {"node", w.Node}, {"ns", w.Namespace}, {"pod", w.Name}, {"sa", w.ServiceAccount}}
	owner := [2]string{w.OwnerKind, w.OwnerName}
	if w.OwnerKind == "pod" || w.OwnerKind == mesh.KindNode || w.OwnerKind == "" {
		return compact(all)
	}
	for i, kv := range all {
		if owner[0] < kv[0] {
			return compact(append(all[:i:i], append([][2]string{owner}, all[i:]...)...))
		}
	}
	return compact(append(all, owner))
}

func compact(all [][2]string) [][2]string {
	out := all[:0]
	for _, kv := range all {
		if kv[1] != "" {
			out = append(out, kv)
		}
	}
	return out
}
