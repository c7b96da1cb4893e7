package table

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/figures"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
	"github.com/underlane/underlane/pkg/tap/filter"
)

// KnownPods are the pods of the cluster. The answer names no others. nil: the agents are
// believed.
type KnownPods interface {
	ByName(namespace, name string) (*mesh.Workload, bool)
	ByAddress(addr netip.Addr) (*mesh.Workload, bool)
}

// OpenAnswers are what agents say of their open connections, by node.
type OpenAnswers struct {
	Nodes     []string
	Responses []*agentv1.ConnectionsResponse // the i-th of the i-th node; nil: it has not answered
	Warnings  []string                       // sentences
	// May is that of Answers. The caller is not told which node a connection is on, or that
	// its agent has not answered, if it may not know of that node.
	May func(node string) bool
}

func (a *OpenAnswers) may(node string) bool { return a.May == nil || a.May(node) }

// OpenRequest returns the request to each agent for q. The error is a mistake of the user.
func OpenRequest(q *tapv1alpha1.ConnectionsQuery) (*agentv1.ConnectionsRequest, error) {
	of, err := openResource(q)
	if err != nil {
		return nil, err
	}
	return &agentv1.ConnectionsRequest{Target: of.String(), Namespace: of.Namespace, Limit: uint32(q.Limit)}, nil
}

func openResource(q *tapv1alpha1.ConnectionsQuery) (filter.Resource, error) {
	text, namespace := q.Kind, q.Namespace
	if q.Name != "" {
		text += "/" + q.Name
	}
	of, err := filter.ParseResource(text, "")
	if err != nil {
		return of, err
	}
	if of.Kind == filter.KindNamespace {
		switch {
		case namespace == "" || namespace == of.Name:
		case of.Name == "":
			of.Name = namespace
		default: // the caller may be allowed to see q.Namespace only
			return of, fmt.Errorf("namespace %s is not in namespace %s", of.Name, namespace)
		}
		return of, nil
	}
	of.Namespace = namespace
	return of, nil
}

// openKey identifies a connection between two pods by its addresses.
type openKey struct{ source, destination netip.AddrPort }

// openItem is a connection that is being joined.
type openItem struct {
	tapv1alpha1.Connection
	source, destination *mesh.Workload // nil: outside the mesh's knowledge
	joined              bool
}

type openMerger struct {
	known  KnownPods
	wanted filter.Resource
	now    time.Time
	items  []*openItem
	wires  map[openKey]*openItem // as the source's agent has reported them
}

// Open joins the answers to q, which were asked for at now. q is complete.
func Open(q *tapv1alpha1.ConnectionsQuery, answers *OpenAnswers, known KnownPods, now time.Time) (*tapv1alpha1.ConnectionList, error) {
	wanted, err := openResource(q)
	if err != nil {
		return nil, err
	}
	m := &openMerger{known: known, wanted: wanted, now: now, wires: map[openKey]*openItem{}}
	out := &tapv1alpha1.ConnectionList{
		Kind: "ConnectionList", APIVersion: tapv1alpha1.GroupVersion, Time: now.UTC(),
		Warnings: append([]string{}, answers.Warnings...), Items: []tapv1alpha1.Connection{},
	}
	for _, node := range answers.Nodes {
		if answers.may(node) {
			out.Nodes.Asked++
		}
	}
	left := 0                                     // out by the agents
	for _, inbound := range []bool{false, true} { // those of clients first
		for i, r := range answers.Responses {
			if r == nil {
				continue
			}
			lies := 0
			for _, c := range r.GetConnections() {
				if c.GetEvent().GetInbound() == inbound && !m.add(answers.Nodes[i], r, c) {
					lies++
				}
			}
			if lies > 0 && answers.may(answers.Nodes[i]) {
				out.Warnings = append(out.Warnings, fmt.Sprintf("%s: its agent speaks of %d connections of pods on other nodes: not believed", answers.Nodes[i], lies))
			}
			if inbound {
				left += int(min(r.GetTotal(), maxTotal)) - len(r.GetConnections())
				if !answers.may(answers.Nodes[i]) {
					continue
				}
				out.Nodes.Answered++
				for _, text := range r.GetWarnings() {
					out.Warnings = append(out.Warnings, answers.Nodes[i]+": "+text)
				}
			}
		}
	}
	if m.wanted != (filter.Resource{}) {
		m.items = slices.DeleteFunc(m.items, func(c *openItem) bool { return !m.matches(c) })
	}
	for _, c := range m.items {
		for j := range c.Legs {
			if !answers.may(c.Legs[j].Node) {
				c.Legs[j].Node = ""
			}
		}
		if !answers.may(c.Node) {
			c.Node = ""
		}
	}
	if q.Node != "" {
		m.items = slices.DeleteFunc(m.items, func(c *openItem) bool {
			return !slices.ContainsFunc(c.Legs, func(l tapv1alpha1.ConnectionLeg) bool { return l.Node == q.Node })
		})
		left = 0
	}
	out.Total = len(m.items) + max(0, left)
	slices.SortStableFunc(m.items, compareOpen)
	for _, c := range m.items[:min(len(m.items), q.Limit)] {
		out.Items = append(out.Items, c.Connection)
	}
	if out.Total > len(out.Items) {
		out.Warnings = append(out.Warnings, fmt.Sprintf("%d connections are open: these are the %d oldest ones", out.Total, len(out.Items)))
	}
	return out, nil
}

const (
	// maxTotal bounds what an agent can have.
	maxTotal = 1 << 20
	// maxAge bounds the age of a connection: more is a mistake of its agent.
	maxAge = 20 * 365 * 24 * time.Hour
)

func compareOpen(a, b *openItem) int {
	var x, y time.Time // before all others, if it is not known
	if a.Since != nil {
		x = *a.Since
	}
	if b.Since != nil {
		y = *b.Since
	}
	return cmp.Or(x.Compare(y), cmp.Compare(a.SourceAddress, b.SourceAddress), cmp.Compare(a.DestinationAddress, b.DestinationAddress), cmp.Compare(a.Part, b.Part))
}

// add adds a connection. It returns false if the agent of node cannot have it, because it is
// of a pod on another node.
func (m *openMerger) add(node string, r *agentv1.ConnectionsResponse, c *agentv1.OpenConnection) bool {
	e := c.GetEvent()
	source, err1 := netip.ParseAddrPort(e.GetSource().GetAddress())
	destination, err2 := netip.ParseAddrPort(e.GetDestination().GetAddress())
	if err1 != nil || err2 != nil {
		return true // of no use
	}
	i := &openItem{source: m.workload(e.GetSource(), source), destination: m.workload(e.GetDestination(), destination)}
	if m.known != nil {
		own, said := &i.source, e.GetSource().GetWorkload()
		if e.GetInbound() {
			own, said = &i.destination, e.GetDestination().GetWorkload()
		}
		w, ok := m.known.ByName(said.GetNamespace(), said.GetName())
		if !ok {
			return true // it has just gone
		}
		if w.Node != node {
			return false
		}
		*own = w
	}
	i.Connection = tapv1alpha1.Connection{
		Source:        endOf(i.source, ""),
		Destination:   endOf(i.destination, nameOutside(e, destination)),
		SourceAddress: source.String(), DestinationAddress: destination.String(),
		Protocol: e.GetProtocol(), SNI: e.GetSni(), DNSName: e.GetDnsName(), Process: e.GetProcess(),
		SRTT: millis(max(0, e.GetSrtt().AsDuration())), MinRTT: millis(max(0, e.GetMinRtt().AsDuration())), Retransmits: uint64(e.GetRetransmits()),
		ReadBytes: e.GetReadBytes(), WriteBytes: e.GetWriteBytes(), Node: node, Part: partOf(e),
	}
	i.Source.Identity, i.Destination.Identity = e.GetSource().GetIdentity(), e.GetDestination().GetIdentity()
	if e.GetServiceName() != "" {
		i.Service = &tapv1alpha1.ServiceName{Namespace: e.GetServiceNamespace(), Name: e.GetServiceName()}
		if i.destination == nil { // which endpoint is not said: requests go to several
			i.Destination = tapv1alpha1.ConnectionEnd{Kind: string(filter.KindService), Namespace: i.Service.Namespace, Name: i.Service.Name}
		}
	}
	if e.GetTime().IsValid() && r.GetTime().IsValid() {
		// By the agent's clock both: so it need not be that of the controller.
		age := min(max(0, r.GetTime().AsTime().Sub(e.GetTime().AsTime())), maxAge)
		since := m.now.Add(-age).UTC().Truncate(time.Millisecond)
		i.Since = &since
	}
	i.Secured = e.GetTls()
	if i.Part == tapv1alpha1.PartApplication {
		i.Secured = tap.TLSSameNode // whatever the other parts are
	}
	i.SecuredWhy = unsecured(i.Secured, meshEnd(&i.Source, i.source), meshEnd(&i.Destination, i.destination))
	i.legs(node, c)
	m.join(i, c)
	return true
}

func (m *openMerger) workload(p *agentv1.Peer, addr netip.AddrPort) *mesh.Workload {
	if m.known != nil {
		w, _ := m.known.ByAddress(addr.Addr())
		return w
	}
	if w := p.GetWorkload(); w != nil {
		return &mesh.Workload{
			Namespace: w.GetNamespace(), Name: w.GetName(), OwnerKind: w.GetOwnerKind(), OwnerName: w.GetOwnerName(), Node: w.GetNode(), Meshed: w.GetMeshed(),
		}
	}
	return nil
}

// nameOutside returns the name of a destination that is no pod.
func nameOutside(e *agentv1.TapEvent, at netip.AddrPort) string {
	switch {
	case e.GetSni() != "":
		return e.GetSni()
	case e.GetDnsName() != "":
		return net.JoinHostPort(e.GetDnsName(), strconv.Itoa(int(at.Port())))
	}
	return at.String()
}

func endOf(w *mesh.Workload, outside string) tapv1alpha1.ConnectionEnd {
	if w == nil {
		return tapv1alpha1.ConnectionEnd{Kind: tapv1alpha1.KindExternal, Name: outside}
	}
	return tapv1alpha1.ConnectionEnd{Kind: w.OwnerKind, Namespace: w.Namespace, Name: w.OwnerName, Pod: w.Name}
}

// meshEnd returns an end as unsecured wants it.
func meshEnd(e *tapv1alpha1.ConnectionEnd, w *mesh.Workload) *figures.End {
	return &figures.End{Kind: e.Kind, Meshed: w != nil && w.Meshed}
}

// partOf returns the part of the way that a connection that carries requests is.
func partOf(e *agentv1.TapEvent) string {
	if e.GetSide() == 0 {
		return ""
	}
	return partOfSide(e, tap.Side(e.GetSide()))
}

// partOfSide returns the part of the way that one side of the agent is.
func partOfSide(e *agentv1.TapEvent, side tap.Side) string {
	toClient := side == tap.ClientSide
	if !e.GetFromKernel() && (toClient != e.GetInbound() || e.GetTls() == tap.TLSSameNode) {
		return tapv1alpha1.PartApplication
	}
	return tapv1alpha1.PartWire
}

func (i *openItem) legs(node string, c *agentv1.OpenConnection) {
	e := c.GetEvent()
	for _, l := range []struct {
		side tap.Side
		ends *agentv1.OpenConnection_Ends
		leg  *agentv1.Leg
	}{{tap.ClientSide, c.GetClient(), e.GetClientLeg()}, {tap.ServerSide, c.GetServer(), e.GetServerLeg()}} {
		if l.ends == nil {
			continue
		}
		i.Legs = append(i.Legs, tapv1alpha1.ConnectionLeg{
			Node: node, Part: cmp.Or(i.Part, partOfSide(e, l.side)), Local: l.ends.GetLocal(), Remote: l.ends.GetRemote(),
			SRTT: millis(max(0, l.leg.GetSrtt().AsDuration())), MinRTT: millis(max(0, l.leg.GetMinRtt().AsDuration())), Retransmits: uint64(l.leg.GetRetransmits()),
			Received: l.leg.GetReceived(), Sent: l.leg.GetSent(), Unread: millis(max(0, l.leg.GetUnread().AsDuration())),
		})
	}
}

// matches reports whether the caller wants the connection. It does not depend on the names
// that the agent gives to other pods than its own.
func (m *openMerger) matches(i *openItem) bool {
	if s := i.Service; s != nil && m.wanted.Kind == filter.KindService {
		return (m.wanted.Name == "" || m.wanted.Name == s.Name) && (m.wanted.Namespace == "" || m.wanted.Namespace == s.Namespace)
	}
	if s := i.Service; s != nil && (m.wanted.Kind == "" && m.wanted.Namespace == s.Namespace || m.wanted.Kind == filter.KindNamespace && (m.wanted.Name == "" || m.wanted.Name == s.Namespace)) {
		return true
	}
	return i.source != nil && m.wanted.Matches(i.source) || i.destination != nil && m.wanted.Matches(i.destination)
}

// join adds the connection, or what the destination's agent says of one that the source's
// agent has reported.
func (m *openMerger) join(i *openItem, c *agentv1.OpenConnection) {
	if key, ok := keyOf(i, c); ok {
		first := m.wires[key]
		switch {
		case !c.GetEvent().GetInbound():
			if first == nil {
				m.wires[key] = i
			}
		case first != nil && !first.joined && first.Node != i.Node && samePod(first.source, i.source) && samePod(first.destination, i.destination):
			first.joined = true
			first.Source.Identity = i.Source.Identity // which the server's side has verified
			first.Legs = append(first.Legs, i.Legs...)
			return
		}
	}
	m.items = append(m.items, i)
}

func samePod(a, b *mesh.Workload) bool {
	return a != nil && b != nil && a.Namespace == b.Namespace && a.Name == b.Name
}

// keyOf returns the key of a connection whose wire leads to another pod.
func keyOf(i *openItem, c *agentv1.OpenConnection) (key openKey, ok bool) {
	ends := c.GetServer()
	if e := c.GetEvent(); e.GetInbound() && !e.GetFromKernel() {
		ends = c.GetClient()
	}
	local, err1 := netip.ParseAddrPort(ends.GetLocal())
	remote, err2 := netip.ParseAddrPort(ends.GetRemote())
	if err1 != nil || err2 != nil || i.Part == tapv1alpha1.PartApplication || i.Secured == tap.TLSSameNode {
		return openKey{}, false
	}
	if c.GetEvent().GetInbound() {
		local, remote = remote, local
	}
	return openKey{local, remote}, true
}
