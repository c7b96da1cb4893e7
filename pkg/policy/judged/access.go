package judged

import (
	"cmp"
	"fmt"
	"slices"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy"
	"github.com/underlane/underlane/pkg/policy/authz"
	"github.com/underlane/underlane/pkg/tap/wire"
)

// Bounds of an answer of Access: what is beyond is left out, and a note says so. Together they
// bound the decisions that an answer takes.
const (
	maxAccessServers = 300  // ports of workloads
	maxAccessClients = 2000 // workloads
	maxAccessNamed   = 100  // identities, and as many networks, that only policies name
	maxAccessPorts   = 16   // of one workload
)

// AccessMesh is what Access knows.
type AccessMesh struct {
	Workloads []*mesh.Workload // of all namespaces whose clients may be told
	Services  []*mesh.Service
	// Spec returns the policies of a pod, nil if it has none. known is false if who answers does
	// not have the policies of that pod.
	Spec func(w *mesh.Workload) (spec *authz.Spec, known bool)
	By   string // whose policies these are
	// Egress are all EgressNetworks, and Routes all routes, of which those count that have one of
	// these as parent. KnowsEgress is false if who answers does not know them.
	KnowsEgress bool
	Egress      []*mesh.EgressNetwork
	Routes      []*mesh.Route
}

// Access says who may connect to the workloads of a namespace: it decides about a connection of
// each client to each port. Clients with the same outcome are one decision.
func Access(namespace string, m *AccessMesh) *tapv1alpha1.AuthzAccess {
	out := &tapv1alpha1.AuthzAccess{
		Kind: "AuthzAccess", APIVersion: tapv1alpha1.GroupVersion, Namespace: namespace, DecidedBy: m.By,
		Warnings: []string{}, Notes: []string{}, Clients: []tapv1alpha1.AuthzClient{}, Servers: []tapv1alpha1.AuthzServer{}, Egress: m.egress(namespace),
	}
	servers, unknown := m.servers(namespace)
	if unknown > 0 {
		out.Notes = append(out.Notes, fmt.Sprintf("the policies of %d workloads are not known here: they are left out", unknown))
	}
	if more := len(servers) - maxAccessServers; more > 0 {
		servers = servers[:maxAccessServers]
		out.Notes = append(out.Notes, fmt.Sprintf("%d more ports of servers are left out", more))
	}
	clients, left := m.clients(servers)
	if left > 0 {
		out.Notes = append(out.Notes, fmt.Sprintf("%d more clients are left out: what is said of the rest holds for most of them", left))
	}
	for i := range clients {
		out.Clients = append(out.Clients, clients[i].AuthzClient)
	}
	for i := range servers {
		out.Servers = append(out.Servers, servers[i].judge(clients))
	}
	return out
}

// outcome is what decides about a connection, and how. It is comparable.
type outcome struct {
	verdict, reason string
	judged          bool
	finding         authz.Finding
}

func (s *accessServer) decide(c *accessClient) outcome {
	v := policy.Decide(policy.Input{Client: c.id, ClientAddr: c.addr, Server: s.pod, Port: s.Port})
	switch {
	case !v.Allowed:
		return outcome{verdict: authz.Deny.String(), reason: v.Reason.String()}
	case !s.pod.Authorized:
		return outcome{verdict: authz.Allow.String(), reason: v.Reason.String()}
	}
	d := s.rules.DecideConnection(&authz.Connection{Peer: c.peer, Client: c.addr, Port: s.Port})
	out := outcome{verdict: d.Verdict.String(), reason: v.Reason.String(), judged: true, finding: d.Finding()}
	if d.Verdict == authz.Deny {
		out.reason = mesh.ReasonPolicyDenied.String()
	}
	return out
}

// judge decides about all clients. The decision about the most workloads is that of the rest.
func (s *accessServer) judge(clients []accessClient) tapv1alpha1.AuthzServer {
	out := s.AuthzServer
	if s.open != "" {
		out.Decisions = []tapv1alpha1.AuthzDecision{{Verdict: authz.Allow.String(), Conclusion: s.open, Rest: true}}
		return out
	}
	groups := map[outcome][]int{}
	var order []outcome
	for i := range clients {
		o := s.decide(&clients[i])
		if groups[o] == nil {
			order = append(order, o)
		}
		groups[o] = append(groups[o], i)
	}
	slices.SortStableFunc(order, func(a, b outcome) int { return cmp.Compare(len(groups[b]), len(groups[a])) })
	for i, o := range order {
		d := tapv1alpha1.AuthzDecision{Rest: i == 0}
		if !d.Rest {
			d.Clients = groups[o]
		}
		m := &agentv1.DecideResponse{Verdict: o.verdict, Reason: o.reason, Mode: s.pod.Settings.Policy.String()}
		if o.judged {
			m.Judged = wire.Judged(&o.finding)
		}
		var e tapv1alpha1.AuthzExplanation
		conclude(&e, m)
		d.Verdict, d.Why, d.Object, d.Rule, d.Audit, d.WouldDeny, d.Conclusion = e.Verdict, e.Why, e.Object, e.Rule, e.Audit, e.WouldDeny, e.Conclusion
		out.Decisions = append(out.Decisions, d)
	}
	return out
}
