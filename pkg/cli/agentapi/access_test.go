package agentapi

import (
	"net/netip"
	"strings"
	"testing"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
	"github.com/underlane/underlane/pkg/state"
)

// TestAccess: each agent's dump has the policies of its own pods. Those of an agent that does not
// answer are not guessed.
func TestAccess(t *testing.T) {
	web, db := workload("web", "node-1"), workload("db", "node-2")
	db.Authorized, db.Addrs = true, []netip.Addr{netip.MustParseAddr("10.0.0.2")}
	one, two := startNode(t, "node-1", web), startNode(t, "node-2", db)
	one.dump.Store(&state.Dump{Workloads: []*mesh.Workload{web, db}})
	two.dump.Store(&state.Dump{
		Workloads: []*mesh.Workload{db, web},
		Services:  []*mesh.Service{{Namespace: "shop", Name: "db", Ports: []mesh.ServicePort{{Port: 80, Endpoints: []mesh.Endpoint{{Addr: netip.MustParseAddrPort("10.0.0.2:8080"), WorkloadUID: db.UID}}}}}},
		Authz: map[string]*authz.Spec{db.UID: {TrustDomain: "d", Groups: []authz.Group{{Name: "own", Policies: []authz.Policy{{
			Name: "AuthorizationPolicy.policy.underlane.io shop/db", Action: authz.ActionAllow,
			Rules: []authz.Rule{{From: []authz.Source{{ServiceAccounts: []authz.ServiceAccount{{Namespace: "shop", Name: "web"}}}}}},
		}}}}}},
	})
	all := api(one, two)
	var a tapv1alpha1.AuthzAccess
	if code := get(t, all, "/namespaces/shop/authz/access", &a); code != 200 || len(a.Servers) != 2 || a.Servers[0].Name != "db" || a.Servers[0].Port != 8080 {
		t.Fatalf("%d %+v, want the ports of two workloads", code, a)
	}
	verdicts := map[string]string{}
	for _, d := range a.Servers[0].Decisions {
		for i, c := range a.Clients {
			if d.Rest && verdicts[c.Name] == "" {
				verdicts[c.Name] = d.Verdict
			}
			for _, n := range d.Clients {
				if n == i {
					verdicts[c.Name] = d.Verdict + " " + d.Object
				}
			}
		}
	}
	if verdicts["web"] != "allow AuthorizationPolicy.policy.underlane.io shop/db" && verdicts["web"] != "allow" || verdicts["db"] == verdicts["web"] {
		t.Errorf("%v, want that web may and db may not", verdicts)
	}
	two.stop()
	a = tapv1alpha1.AuthzAccess{}
	if code := get(t, all, "/namespaces/shop/authz/access", &a); code != 200 || len(a.Servers) != 1 || !strings.Contains(strings.Join(a.Notes, ";"), "policies of 1 workloads are not known") || len(a.Warnings) != 1 {
		t.Errorf("without an agent: %d %+v", code, a)
	}
	one.stop()
	var status struct{ Kind string }
	if code := get(t, all, "/namespaces/shop/authz/access", &status); code != 503 || status.Kind != "Status" {
		t.Errorf("without agents: %d %+v", code, status)
	}
}
