// Package wire converts tap events to messages of the node API and back. The
// converted events are for display and filtering: their workloads have only the
// fields that tap shows.
package wire

import (
	"net/netip"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
	"github.com/underlane/underlane/pkg/policy/calls"
	"github.com/underlane/underlane/pkg/tap"
	"github.com/underlane/underlane/pkg/tap/filter"
)

// Filter converts a tap request to a filter's.
func Filter(r *agentv1.TapRequest) filter.Request {
	var pods map[string]bool
	if r.GetPods() != nil {
		pods = make(map[string]bool, len(r.GetPods().GetUids()))
		for _, uid := range r.GetPods().GetUids() {
			pods[uid] = true
		}
	}
	return filter.Request{
		Pods: pods, Selector: r.GetSelector(),
		Target: r.GetTarget(), Namespace: r.GetNamespace(), To: r.GetTo(), ToNamespace: r.GetToNamespace(),
		Scheme: r.GetScheme(), Method: r.GetMethod(), Authority: r.GetAuthority(), Path: r.GetPath(),
		MaxRPS: r.GetMaxRps(), View: filter.View(r.GetView()), Legs: r.GetLegs(),
	}
}

// Batch converts a batch of events to one message. lost is the number of events
// that were lost after them.
func Batch(events []tap.Event, lost uint64) *agentv1.TapEvents {
	out := &agentv1.TapEvents{Events: make([]*agentv1.TapEvent, len(events)), Lost: lost}
	for i := range events {
		out.Events[i] = ToProto(&events[i])
	}
	return out
}

// ToProto converts one event.
func ToProto(e *tap.Event) *agentv1.TapEvent {
	m := &agentv1.TapEvent{
		Kind:        agentv1.TapEvent_Kind(e.Kind),
		FromKernel:  e.Origin == tap.FromKernel,
		Inbound:     e.Direction == mesh.Inbound,
		Time:        timestamppb.New(e.Time),
		Base:        e.Base,
		Stream:      e.Stream,
		Source:      peerToProto(&e.Source),
		Destination: peerToProto(&e.Destination),
		Tls:         e.TLS,
		Protocol:    e.Protocol,
		Method:      text(e.Method),
		Scheme:      text(e.Scheme),
		Authority:   text(e.Authority),
		Path:        text(e.Path),
		Sni:         text(e.SNI),
		DnsName:     text(e.DNS),
		Status:      int32(e.Status),
		Grpc:        e.GRPC,
		GrpcStatus:  int32(e.GRPCStatus),
		Reset_:      e.Reset,
		ResetCode:   e.ResetCode,
		Latency:     duration(e.Latency),
		Duration:    duration(e.Duration),
		ReadBytes:   e.ReadBytes,
		WriteBytes:  e.WriteBytes,
		Reason:      e.Reason.String(),
		Process:     text(e.Process),
		Srtt:        duration(e.SRTT),
		MinRtt:      duration(e.MinRTT),
		Retransmits: e.Retransmits,
		Retries:     uint32(e.Retries),
		Split:       splitToProto(&e.Split),
		Asked:       int64(e.Asked),
		Side:        uint32(e.Side),
		Headers:     headersToProto(e.Headers),
	}
	if e.Judged != nil {
		m.Judged = Judged(e.Judged.Finding)
	}
	if e.Legs != nil {
		m.ClientLeg, m.ServerLeg = legToProto(&e.Legs.Client), legToProto(&e.Legs.Server)
	}
	if e.Service != nil {
		m.ServiceName, m.ServiceNamespace = e.Service.Name, e.Service.Namespace
	}
	if r := e.Route; r != nil {
		m.Route = &agentv1.Route{Kind: r.Kind, Namespace: r.Namespace, Name: r.Name, Rule: e.Rule}
	}
	return m
}

// FromProto converts a message to an event. A value that it does not know, such
// as a reason of a newer agent, becomes the zero value.
func FromProto(m *agentv1.TapEvent) tap.Event {
	e := tap.Event{
		Kind:        tap.Kind(m.GetKind()),
		Time:        m.GetTime().AsTime(),
		Base:        m.GetBase(),
		Stream:      m.GetStream(),
		Source:      peerFromProto(m.GetSource()),
		Destination: peerFromProto(m.GetDestination()),
		TLS:         m.GetTls(),
		Protocol:    m.GetProtocol(),
		Method:      m.GetMethod(),
		Scheme:      m.GetScheme(),
		Authority:   m.GetAuthority(),
		Path:        m.GetPath(),
		SNI:         m.GetSni(),
		DNS:         m.GetDnsName(),
		Status:      int(m.GetStatus()),
		GRPC:        m.GetGrpc(),
		GRPCStatus:  int(m.GetGrpcStatus()),
		Reset:       m.GetReset_(),
		ResetCode:   m.GetResetCode(),
		Latency:     m.GetLatency().AsDuration(),
		Duration:    m.GetDuration().AsDuration(),
		ReadBytes:   m.GetReadBytes(),
		WriteBytes:  m.GetWriteBytes(),
		Reason:      mesh.ParseReason(m.GetReason()),
		Process:     m.GetProcess(),
		SRTT:        m.GetSrtt().AsDuration(),
		MinRTT:      m.GetMinRtt().AsDuration(),
		Retransmits: m.GetRetransmits(),
		Retries:     int(m.GetRetries()),
		Split:       splitFromProto(m.GetSplit()),
		Asked:       time.Duration(m.GetAsked()),
		Side:        tap.Side(m.GetSide()),
		Headers:     headersFromProto(m.GetHeaders()),
	}
	if m.GetClientLeg() != nil || m.GetServerLeg() != nil {
		e.Legs = &tap.Legs{Client: legFromProto(m.GetClientLeg()), Server: legFromProto(m.GetServerLeg())}
	}
	if m.GetJudged() != nil {
		e.Judged = &calls.Entry{Finding: Finding(m.GetJudged())}
	}
	if m.GetFromKernel() {
		e.Origin = tap.FromKernel
	}
	if m.GetInbound() {
		e.Direction = mesh.Inbound
	}
	if m.GetServiceName() != "" {
		e.Service = &mesh.Service{Name: m.GetServiceName(), Namespace: m.GetServiceNamespace()}
	}
	if r := m.GetRoute(); r != nil {
		e.Route, e.Rule = &mesh.Route{Kind: r.GetKind(), Namespace: r.GetNamespace(), Name: r.GetName()}, r.GetRule()
	}
	return e
}

// Judged converts a decision of policies.
func Judged(f *authz.Finding) *agentv1.Judged {
	return &agentv1.Judged{Denied: f.Denied, Why: f.Why.String(), Object: f.Object, Rule: f.Rule, Audit: f.Audit, WouldDeny: f.WouldDeny, Failed: f.Failed}
}

// Finding converts it back.
func Finding(m *agentv1.Judged) *authz.Finding {
	return &authz.Finding{
		Denied: m.GetDenied(), Why: authz.ParseWhy(m.GetWhy()), Object: m.GetObject(), Rule: m.GetRule(), Audit: m.GetAudit(), WouldDeny: m.GetWouldDeny(),
		Failed: m.GetFailed(),
	}
}

// text makes a valid protobuf string, which must be UTF-8, of bytes from the
// wire.
func text(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

func duration(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}

func splitToProto(s *tap.Split) *agentv1.Split {
	if *s == (tap.Split{}) {
		return nil
	}
	return &agentv1.Split{
		Queue: int64(s.Queue), Connect: int64(s.Connect), Tls: int64(s.TLS),
		FirstByte: int64(s.FirstByte), Body: int64(s.Body),
	}
}

func splitFromProto(m *agentv1.Split) tap.Split {
	return tap.Split{
		Queue: time.Duration(m.GetQueue()), Connect: time.Duration(m.GetConnect()), TLS: time.Duration(m.GetTls()),
		FirstByte: time.Duration(m.GetFirstByte()), Body: time.Duration(m.GetBody()),
	}
}

func headersToProto(h *tap.Headers) *agentv1.Headers {
	if h == nil {
		return nil
	}
	m := &agentv1.Headers{Cut: h.Cut, Fields: make([]*agentv1.Header, len(h.List))}
	for i, f := range h.List {
		m.Fields[i] = &agentv1.Header{Name: text(f.Name), Value: []byte(f.Value)}
	}
	return m
}

func headersFromProto(m *agentv1.Headers) *tap.Headers {
	if m == nil {
		return nil
	}
	h := &tap.Headers{Cut: m.GetCut(), List: make([]tap.Header, len(m.GetFields()))}
	for i, f := range m.GetFields() {
		h.List[i] = tap.Header{Name: f.GetName(), Value: string(f.GetValue())}
		h.Bytes += len(f.GetName()) + len(f.GetValue())
	}
	return h
}

func legToProto(l *tap.Leg) *agentv1.Leg {
	if *l == (tap.Leg{}) {
		return nil
	}
	return &agentv1.Leg{
		Srtt: duration(l.SRTT), MinRtt: duration(l.MinRTT), Retransmits: l.Retransmits, Received: l.Received, Sent: l.Sent, Unread: duration(l.Unread),
	}
}

func legFromProto(m *agentv1.Leg) tap.Leg {
	return tap.Leg{
		SRTT: m.GetSrtt().AsDuration(), MinRTT: m.GetMinRtt().AsDuration(), Retransmits: m.GetRetransmits(),
		Received: m.GetReceived(), Sent: m.GetSent(), Unread: m.GetUnread().AsDuration(),
	}
}

func peerToProto(p *tap.Peer) *agentv1.Peer {
	m := &agentv1.Peer{Identity: p.Identity.String()}
	if p.Addr.IsValid() {
		m.Address = p.Addr.String()
	}
	if w := p.Workload; w != nil {
		m.Workload = &agentv1.Workload{
			Name: w.Name, Namespace: w.Namespace, ServiceAccount: w.ServiceAccount, Node: w.Node,
			OwnerKind: w.OwnerKind, OwnerName: w.OwnerName, Meshed: w.Meshed,
		}
	}
	return m
}

func peerFromProto(m *agentv1.Peer) tap.Peer {
	var p tap.Peer
	p.Addr, _ = netip.ParseAddrPort(m.GetAddress())
	p.Identity, _ = mesh.ParseIdentity(m.GetIdentity())
	if w := m.GetWorkload(); w != nil {
		p.Workload = &mesh.Workload{
			Name: w.GetName(), Namespace: w.GetNamespace(), ServiceAccount: w.GetServiceAccount(), Node: w.GetNode(),
			OwnerKind: w.GetOwnerKind(), OwnerName: w.GetOwnerName(), Meshed: w.GetMeshed(),
		}
	}
	return p
}
