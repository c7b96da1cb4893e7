package judged

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
)

// at gives a pod an address of its own.
func at(w *mesh.Workload, addr string) *mesh.Workload {
	w.Addrs = []netip.Addr{netip.MustParseAddr(addr)}
	return w
}

// serverSpec is Server shop/api of port 8080, which lets in web, backup and a network, where audit
// policy asks for a report of backup; the default of other ports is deny.
func serverSpec() *authz.Spec {
	account := func(name string) authz.Source {
		return authz.Source{ServiceAccounts: []authz.ServiceAccount{{Namespace: "shop", Name: name}}}
	}
	return &authz.Spec{TrustDomain: "td", Groups: []authz.Group{
		{
			Name: "Server.policy.linkerd.io shop/api", Ports: []authz.PortRange{authz.Port(8080)},
			Policies: []authz.Policy{
				{Name: "AuthorizationPolicy.policy.linkerd.io shop/clients", Action: authz.ActionAllow, Rules: []authz.Rule{
					{From: []authz.Source{account("web"), account("backup")}},
					{From: []authz.Source{{Networks: []authz.Network{{CIDR: netip.MustParsePrefix("192.168.0.0/16"), Except: []netip.Prefix{netip.MustParsePrefix("192.168.0.0/24")}}}}}},
				}},
				{Name: "AuthorizationPolicy.policy.underlane.io shop/watch", Action: authz.ActionAudit, Rules: []authz.Rule{{From: []authz.Source{account("backup")}}}},
			},
		},
		{Name: authz.DefaultGroup, NotPorts: []authz.PortRange{authz.Port(8080)}, Default: authz.ModeDeny},
	}}
}

func accessMesh() *AccessMesh {
	api := at(pod("api", true), "10.0.0.1")
	web, cron, old := at(pod("web", true), "10.0.0.2"), at(pod("cron", true), "10.0.0.3"), at(pod("old", false), "10.0.0.4")
	specs := map[string]*authz.Spec{"api": serverSpec()}
	cron.Authorized, web.Authorized = false, false
	web.Settings.Policy = mesh.PolicyStrict
	return &AccessMesh{
		By: "a test", Workloads: []*mesh.Workload{api, web, cron, old, mesh.NodeItself("n1")},
		Services: []*mesh.Service{{Namespace: "shop", Name: "api", Ports: []mesh.ServicePort{
			{Port: 80, Endpoints: []mesh.Endpoint{{Addr: netip.MustParseAddrPort("10.0.0.1:8080"), WorkloadUID: "api"}}},
			{Port: 81, Endpoints: []mesh.Endpoint{{Addr: netip.MustParseAddrPort("10.0.0.1:9090"), WorkloadUID: "api"}}},
		}}},
		Spec: func(w *mesh.Workload) (*authz.Spec, bool) { return specs[w.UID], true },
	}
}

// accessLines writes an answer, a line for each client that a decision names: SERVER:PORT MODE:
// CLIENT VERDICT OBJECT.
func accessLines(a *tapv1alpha1.AuthzAccess) (out []string) {
	for _, s := range a.Servers {
		for _, d := range s.Decisions {
			who := []string{}
			for _, i := range d.Clients {
				who = append(who, strings.TrimSpace(a.Clients[i].Kind+" "+a.Clients[i].Name))
			}
			if d.Rest {
				who = []string{"rest"}
			}
			for _, w := range who {
				out = append(out, strings.TrimSpace(fmt.Sprintf("%s:%d %s: %s %s %s%s", s.Name, s.Port, s.Mode, w, d.Verdict, authz.ShortName(d.Object), map[bool]string{true: " audited"}[d.Audit != ""])))
			}
		}
	}
	slices.Sort(out)
	return out
}

// TestAccess: for each port and client it says what decides; what policies name beside workloads is
// a client, too; clients with the same outcome are together.
func TestAccess(t *testing.T) {
	a := Access("shop", accessMesh())
	want := []string{
		"api:8080 deny: identity allow AuthorizationPolicy.policy.linkerd.io shop/clients audited",
		"api:8080 deny: network 192.168.0.0/16 allow AuthorizationPolicy.policy.linkerd.io shop/clients",
		"api:8080 deny: pod web allow AuthorizationPolicy.policy.linkerd.io shop/clients",
		"api:8080 deny: rest deny Server shop/api",
		"api:9090 deny: rest deny default deny",
		"cron:0 allow: rest allow",
		"old:0 : rest allow",
		"web:0 strict: network 192.168.0.0/16 deny",
		"web:0 strict: pod old deny",
		"web:0 strict: rest allow",
		"web:0 strict: stranger deny",
	}
	if diff := cmp.Diff(want, accessLines(a)); diff != "" {
		t.Error(diff)
	}
	if s := a.Servers[0]; !slices.Equal(s.Services, []string{"api"}) || !slices.Contains(s.Objects, "AuthorizationPolicy.policy.linkerd.io shop/clients") {
		t.Errorf("got %+v, want its Service and its objects", s)
	}
	if !slices.ContainsFunc(a.Clients, func(c tapv1alpha1.AuthzClient) bool {
		return c.Kind == tapv1alpha1.ClientIdentity && c.Identity == "spiffe://td/ns/shop/sa/backup"
	}) {
		t.Errorf("got %+v, want the account that has no pod", a.Clients)
	}
}

// TestAccessAgrees: it says of each pair of pods what Explain says.
func TestAccessAgrees(t *testing.T) {
	m := accessMesh()
	a := Access("shop", m)
	explain := &Mesh{Workloads: m.Workloads, Services: m.Services, Decide: func(w *mesh.Workload, r *agentv1.DecideRequest) (*agentv1.DecideResponse, string, error) {
		spec, _ := m.Spec(w)
		if spec == nil {
			spec = new(authz.Spec)
		}
		rules, _ := authz.CompileWorkload(spec)
		return Decide(w, rules, r), "", nil
	}}
	compared := 0
	for _, s := range a.Servers {
		for i, c := range a.Clients {
			q := tapv1alpha1.AuthzExplainQuery{Namespace: "shop", To: "pod/" + s.Name, Port: max(s.Port, 1)}
			switch c.Kind {
			case "pod":
				q.From = "pod/" + c.Name
			case tapv1alpha1.ClientStranger:
			default:
				continue
			}
			e, err := Explain(&q, explain)
			if err != nil {
				t.Fatal(err)
			}
			d := slices.IndexFunc(s.Decisions, func(d tapv1alpha1.AuthzDecision) bool { return slices.Contains(d.Clients, i) })
			if d < 0 {
				d = slices.IndexFunc(s.Decisions, func(d tapv1alpha1.AuthzDecision) bool { return d.Rest })
			}
			if got := s.Decisions[d]; got.Conclusion != e.Conclusion || got.Object != e.Object || got.Audit != e.Audit {
				t.Errorf("%s to %s:%d: %+v, and Explain says %+v", c.Name, s.Name, s.Port, got, e)
			}
			compared++
		}
	}
	if compared < 20 {
		t.Errorf("%d pairs were compared", compared)
	}
}

// TestAccessBounds: what is too much is left out, and said to be; pods that have different policies
// are said to have, and so are policies that are not known.
func TestAccessBounds(t *testing.T) {
	m := accessMesh()
	for i := range maxAccessClients + 10 {
		w := pod(fmt.Sprint("w", i), true)
		w.Namespace, w.Authorized = "crowd", false
		w.Identity.Namespace = "crowd"
		m.Workloads = append(m.Workloads, w)
	}
	twin := at(pod("twin", true), "10.0.0.9")
	twin.OwnerName, twin.Authorized, twin.UID = "api", false, "twin"
	unknown := pod("unknown", true)
	m.Workloads = append(m.Workloads, twin, unknown)
	spec := m.Spec
	m.Spec = func(w *mesh.Workload) (*authz.Spec, bool) {
		s, _ := spec(w)
		return s, w.UID != "unknown"
	}
	a := Access("shop", m)
	if len(a.Clients) > maxAccessClients+2*maxAccessNamed+1 {
		t.Errorf("%d clients", len(a.Clients))
	}
	if notes := strings.Join(a.Notes, "; "); !strings.Contains(notes, "more clients are left out") || !strings.Contains(notes, "policies of 1 workloads are not known") {
		t.Errorf("notes %q", notes)
	}
	for _, s := range a.Servers {
		if s.Uneven != (s.Name == "api") {
			t.Errorf("%s: uneven %v", s.Name, s.Uneven)
		}
		if len(s.Decisions) > 5 {
			t.Errorf("%s: %d decisions, want clients with the same outcome together", s.Name, len(s.Decisions))
		}
	}
	if a := Access("crowd", m); len(a.Servers) != maxAccessServers || len(a.Notes) == 0 {
		t.Errorf("%d servers, notes %q", len(a.Servers), a.Notes)
	}
	if a := Access("none", m); len(a.Servers) != 0 || a.Servers == nil {
		t.Errorf("%+v, want an empty list", a.Servers)
	}
}

// TestAccessEgress: a namespace's own EgressNetworks count, and without them the global ones.
func TestAccessEgress(t *testing.T) {
	m := accessMesh()
	if got := Access("shop", m).Egress; got != nil {
		t.Errorf("%+v, want nil where EgressNetworks are not known", got)
	}
	m.KnowsEgress = true
	if got := Access("shop", m).Egress; got == nil || len(got) != 0 {
		t.Errorf("%+v, want none", got)
	}
	own := &mesh.EgressNetwork{Namespace: "shop", Name: "own", Deny: true, Networks: []mesh.EgressRange{{
		CIDR: netip.MustParsePrefix("203.0.113.0/24"), Except: []netip.Prefix{netip.MustParsePrefix("203.0.113.9/32")},
	}}}
	m.Egress = []*mesh.EgressNetwork{own, {Namespace: "underlane-system", Name: "all", Global: true}}
	route := func(namespace, parent string) *mesh.Route {
		return &mesh.Route{Egress: true, Kind: "TLSRoute", Namespace: namespace, Name: "cdn", Parent: mesh.ServicePortRef{Namespace: parent, Name: "own", Port: 443}, Hostnames: []string{"*.cdn.example"}}
	}
	m.Routes = []*mesh.Route{route("shop", "shop"), route("other", "shop"), route("shop", "other"), {Kind: "HTTPRoute", Namespace: "shop", Parent: mesh.ServicePortRef{Namespace: "shop", Name: "own"}}}
	want := []tapv1alpha1.AuthzEgress{{
		Namespace: "shop", Name: "own", Deny: true, Networks: []string{"203.0.113.0/24 except 203.0.113.9/32"},
		Routes: []tapv1alpha1.AuthzEgressRoute{{Kind: "TLSRoute", Namespace: "shop", Name: "cdn", Port: 443, Hostnames: []string{"*.cdn.example"}}},
	}}
	if diff := cmp.Diff(want, Access("shop", m).Egress); diff != "" {
		t.Error(diff)
	}
	if got := Access("other", m).Egress; len(got) != 1 || got[0].Name != "all" {
		t.Errorf("%+v, want the global network", got)
	}
}
