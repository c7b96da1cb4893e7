package cluster

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/mesh"
)

// TestWhy: `underlane why` prints the steps, and its exit status is the answer.
func TestWhy(t *testing.T) {
	w, agents := newWorld(t, "a", "b")
	for i, a := range agents {
		w.workloads[i].Addrs = []netip.Addr{netip.AddrFrom4([4]byte{10, 0, byte(i), 2})}
		identity := w.workloads[i].Identity.String()
		a.St.Pods = []*agentv1.Pod{{Namespace: "shop", Name: "web-" + a.Name, State: mesh.PodEnrolled, Identity: identity}}
		a.St.Certificates = []*agentv1.Certificate{{Identity: identity, State: "valid"}}
		a.St.Controller = &agentv1.Controller{Connected: true}
	}
	api := w.workloads[1]
	w.services = []*mesh.Service{{
		Name: "api", Namespace: "shop", VIPs: []netip.Addr{netip.MustParseAddr("10.9.0.1")},
		Ports: []mesh.ServicePort{{Port: 80, Endpoints: []mesh.Endpoint{{Addr: netip.AddrPortFrom(api.Addrs[0], 8080), Ready: true, Workload: api, WorkloadUID: api.UID}}}},
	}}
	agents[0].TryResponse = func(*agentv1.TryRequest) (*agentv1.TryResponse, error) {
		return &agentv1.TryResponse{Connected: true, Status: 204}, nil
	}
	w.kube.Allow = func(s authorizationv1.SubjectAccessReviewSpec) bool {
		return s.User == "alice" || s.ResourceAttributes.Verb == "get"
	}
	for name, c := range map[string]struct {
		user string
		args []string
		code int
		out  []string
		err  string
	}{
		"good":            {"alice", []string{"pod/web-a", "svc/api:80"}, 0, []string{"1. √ pod/web-a in namespace shop is captured.", "5. √ 1 endpoint can be chosen.", "by mutual TLS, on b", "\n\nThe call should work.\n"}, ""},
		"as a name":       {"alice", []string{"web-a", "api.shop.svc.cluster.local"}, 0, []string{"service/api in namespace shop has port 80"}, ""},
		"a workload":      {"alice", []string{"deploy/web", "pod/web-b:8080"}, 0, []string{"deployment/web in namespace shop, of which pod web-a is looked at,"}, ""},
		"wrong port":      {"alice", []string{"deploy/web", "api:81"}, 1, []string{"2. × service/api in namespace shop has no port 81.", "The call will not work."}, ""},
		"no such Service": {"alice", []string{"deploy/web", "ap:80"}, 1, []string{"There is no service/ap", "the namespace has api"}, ""},
		"tried":           {"alice", []string{"pod/web-a", "api", "--try"}, 0, []string{"7. ", "answered with status 204", "The call works: it was tried."}, ""},
		"may not try":     {"jane", []string{"pod/web-a", "api", "--try"}, 1, nil, `user "jane" may not make connections as pods/web-a`},
		"no question":     {"alice", []string{"svc/api", "pod/web-a:80"}, 1, nil, "makes no calls"},
		"no port":         {"alice", []string{"pod/web-a", "api:x"}, 1, nil, "no port number"},
		"no protocol":     {"alice", []string{"pod/web-a", "api", "--protocol", "udp"}, 1, nil, "use http, http2, tls or tcp"},
	} {
		r := w.run(t.Context(), c.user, append([]string{"why"}, c.args...)...)
		if r.code != c.code || !strings.Contains(r.err, c.err) || c.err == "" && r.err != "" {
			t.Errorf("%s: code %d, stderr %q, stdout %s; want %d and %q", name, r.code, r.err, r.out, c.code, c.err)
		}
		for _, want := range c.out {
			if !strings.Contains(r.out, want) {
				t.Errorf("%s prints %s, want %q in it", name, r.out, want)
			}
		}
	}
	r := w.run(t.Context(), "alice", "why", "pod/web-a", "api", "-o", "json", "--header", "a=b", "--header", "c=d")
	var report tapv1alpha1.WhyReport
	if err := json.Unmarshal([]byte(r.out), &report); err != nil || !report.Works || len(report.Steps) != 6 {
		t.Errorf("as JSON: %v, %+v", err, r)
	}
}
