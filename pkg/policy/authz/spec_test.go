package authz

import (
	"testing"

	"github.com/underlane/underlane/pkg/mesh"
)

// TestGroupsAllHaveToAllow checks which group decides about which port.
func TestGroupsAllHaveToAllow(t *testing.T) {
	web := Policy{Name: "web", Action: ActionAllow, Rules: []Rule{{From: []Source{{Namespaces: []Match{{Value: "web"}}}}}}}
	get := Policy{Name: "get", Action: ActionAllow, Rules: []Rule{{To: []Operation{{Methods: []Match{{Value: "GET"}}}}}}}
	w, problems := CompileWorkload(&Spec{TrustDomain: "td", Groups: []Group{
		{Name: "a", Ports: []PortRange{Port(80)}, Policies: []Policy{web}},
		{Name: "b", Ports: []PortRange{Port(80), Port(81)}, Policies: []Policy{get}},
		{Name: "c", NotPorts: []PortRange{Port(80), Port(81), Port(82)}, Default: ModeAllAuthenticated, Unmatched: ModeAllAuthenticated},
	}})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	for name, tc := range map[string]struct {
		namespace  string
		port       uint16
		method     string
		connection Verdict
		request    Verdict
	}{
		"both allow":                 {"web", 80, "GET", NeedsRequest, Allow},
		"the first does not":         {"job", 80, "GET", Deny, Deny},
		"the second does not":        {"web", 80, "PUT", NeedsRequest, Deny},
		"the first is not about it":  {"job", 81, "GET", NeedsRequest, Allow},
		"no group is about it":       {"", 82, "PUT", Allow, Allow},
		"the default allows":         {"job", 83, "PUT", Allow, Allow},
		"the default does not allow": {"", 83, "PUT", Deny, Deny},
	} {
		c := &Connection{Port: tc.port}
		if tc.namespace != "" {
			c.Peer = PeerOf(mesh.Identity{TrustDomain: "td", Namespace: tc.namespace, ServiceAccount: "x"})
		}
		if got := w.DecideConnection(c).Verdict; got != tc.connection {
			t.Errorf("%s: connection: got %v, want %v", name, got, tc.connection)
		}
		if got := w.DecideRequest(c, &Request{Method: tc.method, Path: "/"}).Verdict; got != tc.request {
			t.Errorf("%s: request: got %v, want %v", name, got, tc.request)
		}
	}
	for port, want := range map[uint16]bool{0: true, 80: true, 81: true, 82: false, 83: false} {
		if got := w.NeedsRequests(port); got != want {
			t.Errorf("NeedsRequests(%d): got %v, want %v", port, got, want)
		}
	}
	var none *Workload
	if d := none.DecideConnection(&Connection{Port: 80}); d.Verdict != Deny {
		t.Errorf("without policies: got %v, want deny", d.Verdict)
	}
	if d := none.DecideConnection(&Connection{Port: 80, Probe: true}); d.Verdict != Allow {
		t.Errorf("a probe: got %v, want allow", d.Verdict)
	}
	if d := w.DecideConnection(&Connection{Port: 80, Probe: true}); d.Verdict != Allow {
		t.Errorf("a probe: got %v, want allow", d.Verdict)
	}
}
