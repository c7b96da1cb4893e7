package judged

import (
	"net/netip"
	"strings"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy"
	"github.com/underlane/underlane/pkg/policy/authz"
	"github.com/underlane/underlane/pkg/policy/calls"
	"github.com/underlane/underlane/pkg/policy/jwt"
	"github.com/underlane/underlane/pkg/tap/wire"
)

// Question is a call to be decided.
type Question struct {
	Client     mesh.Identity
	Connection authz.Connection
	Request    *authz.Request // nil: a connection
}

// Call converts a question.
func Call(r *agentv1.DecideRequest) *Question {
	q := &Question{Connection: authz.Connection{Port: uint16(r.GetPort())}}
	q.Client, _ = mesh.ParseIdentity(r.GetClient())
	q.Connection.Peer = authz.ParsePeer(r.GetClient())
	q.Connection.Client, _ = netip.ParseAddr(r.GetAddress())
	if r.GetMethod() != "" {
		q.Request = &authz.Request{Method: r.GetMethod(), Authority: r.GetAuthority(), Path: r.GetPath(), Fields: fields(r.GetHeaders())}
		if t, err := jwt.Given([]byte(r.GetClaims())); err == nil {
			q.Request.Principal, q.Request.Claims = t.Principal, t
		}
	}
	return q
}

// Decide decides it. Without a Request it may be that the decision needs one.
func (q *Question) Decide(rules *authz.Workload) authz.Decision {
	if q.Request == nil {
		return rules.DecideConnection(&q.Connection)
	}
	return rules.DecideRequest(&q.Connection, q.Request)
}

// Decide decides it for a pod and its compiled policies.
func Decide(w *mesh.Workload, rules *authz.Workload, r *agentv1.DecideRequest) *agentv1.DecideResponse {
	call := Call(r)
	out := &agentv1.DecideResponse{Node: w.Node, Known: true, Mode: w.Settings.Policy.String()}
	verdict := policy.Decide(policy.Input{Client: call.Client, ClientAddr: call.Connection.Client, Server: w, Port: call.Connection.Port})
	out.Verdict, out.Reason = authz.Allow.String(), verdict.Reason.String()
	if !verdict.Allowed {
		out.Verdict = authz.Deny.String()
		return out
	}
	if w.Authorized {
		decision := call.Decide(rules)
		finding := decision.Finding()
		out.Verdict, out.Judged = decision.Verdict.String(), wire.Judged(&finding)
		if decision.Verdict == authz.Deny {
			out.Reason = mesh.ReasonPolicyDenied.String()
		}
	}
	if out.Verdict != authz.Deny.String() && (w.Authorized || w.Limited) {
		out.Limits = rules.LimitsOf(&call.Connection, call.Request)
	}
	return out
}

// fields implements authz.Fields.
type fields []*agentv1.Header

// Next implements authz.Fields.
func (f fields) Next(name string, from int) (value string, next int, ok bool) {
	for i := from; i < len(f); i++ {
		if strings.EqualFold(f[i].GetName(), name) {
			return string(f[i].GetValue()), i + 1, true
		}
	}
	return "", 0, false
}

// Alike implements authz.Fields.
func (f fields) Alike(name string, from int) (value string, next int, ok bool) {
	dashes := strings.NewReplacer("_", "-")
	for i := from; i < len(f); i++ {
		if n := f[i].GetName(); !strings.EqualFold(n, name) && strings.EqualFold(dashes.Replace(n), dashes.Replace(name)) {
			return string(f[i].GetValue()), i + 1, true
		}
	}
	return "", 0, false
}

// Calls converts a list of calls.
func Calls(node string, list *calls.List, rules func(uid string) *authz.Workload, pods []*mesh.Workload) *agentv1.CallsResponse {
	out := &agentv1.CallsResponse{Node: node, Seconds: list.Seconds, Lost: list.Lost}
	numbers := map[string]uint32{}
	add := func(w *mesh.Workload) uint32 {
		n, ok := numbers[w.UID]
		if !ok {
			n = uint32(len(out.Pods))
			numbers[w.UID] = n
			out.Pods = append(out.Pods, &agentv1.RuledPod{
				Uid: w.UID, Namespace: w.Namespace, Name: w.Name, OwnerKind: w.OwnerKind, OwnerName: w.OwnerName, Objects: rules(w.UID).Objects(),
			})
		}
		return n
	}
	for _, w := range pods {
		add(w)
	}
	for i := range list.Calls {
		c := &list.Calls[i]
		m := &agentv1.JudgedCall{
			Pod: add(c.Pod), Client: c.Client.String(), Port: uint32(c.Port), Method: c.Method, Host: c.Host, Path: c.Path,
			Judged: wire.Judged(c.Finding), Calls: c.Calls, Failed: c.Failed, Open: c.Open,
		}
		if c.From.IsValid() {
			m.Address = c.From.String()
		}
		out.Calls = append(out.Calls, m)
	}
	return out
}
