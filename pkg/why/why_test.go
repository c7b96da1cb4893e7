package why

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/durationpb"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/mesh"
)

// shop is a mesh of two nodes: web-1 on node-1 calls the Service api, whose pods are api-1 on
// node-1 and api-2 on node-2.
type shop struct {
	*Facts
	web, api1, api2 *mesh.Workload
	api             *mesh.Service
	q               tapv1alpha1.WhyQuery
}

func newShop() *shop {
	pod := func(name, owner, node, addr string) *mesh.Workload {
		return &mesh.Workload{
			UID: name, Name: name, Namespace: "shop", Node: node, OwnerKind: "deployment", OwnerName: owner, Ready: true, Meshed: true, Enrolled: true,
			Addrs: []netip.Addr{netip.MustParseAddr(addr)}, Identity: mesh.Identity{TrustDomain: "td", Namespace: "shop", ServiceAccount: owner},
		}
	}
	s := &shop{
		web: pod("web-1", "web", "node-1", "10.0.1.1"), api1: pod("api-1", "api", "node-1", "10.0.1.2"), api2: pod("api-2", "api", "node-2", "10.0.2.2"),
		q: tapv1alpha1.WhyQuery{Namespace: "shop", From: "deploy/web", To: "svc/api", Port: 80},
	}
	s.api = &mesh.Service{Name: "api", Namespace: "shop", VIPs: []netip.Addr{netip.MustParseAddr("10.9.0.1")}, Ports: []mesh.ServicePort{{
		Name: "http", Port: 80, Endpoints: []mesh.Endpoint{endpoint(s.api1), endpoint(s.api2)},
	}}}
	s.Facts = &Facts{
		Workloads: []*mesh.Workload{s.web, s.api1, s.api2}, Services: []*mesh.Service{s.api},
		Agents: map[string]*Agent{"node-1": alive(s.web, s.api1), "node-2": alive(s.api2)},
		Recent: &tapv1alpha1.Figures{},
	}
	return s
}

func endpoint(w *mesh.Workload) mesh.Endpoint {
	return mesh.Endpoint{Addr: netip.AddrPortFrom(w.Addrs[0], 8080), Ready: true, Workload: w, WorkloadUID: w.UID}
}

func alive(pods ...*mesh.Workload) *Agent {
	st := &agentv1.StatusResponse{}
	for _, w := range pods {
		st.Pods = append(st.Pods, &agentv1.Pod{Namespace: w.Namespace, Name: w.Name, State: mesh.PodEnrolled})
		st.Certificates = append(st.Certificates, &agentv1.Certificate{Identity: w.Identity.String(), State: "valid"})
	}
	return &Agent{Status: st}
}

// TestExplain: each case of why a call works or does not is found in the step that it is
// about.
func TestExplain(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*shop)
		works  bool
		step   string // that is not ok
		result string
		want   []string // in the step's text and evidence
	}{
		"good": {func(*shop) {}, true, "endpoints", tapv1alpha1.WhyOK, []string{
			"2 endpoints can be chosen", "pod api-1 (10.0.1.2:8080): within node-1", "pod api-2 (10.0.2.2:8080): by mutual TLS, on node-2",
		}},
		"only the other node":   {func(s *shop) { s.api.Ports[0].Endpoints = s.api.Ports[0].Endpoints[1:] }, true, "endpoints", tapv1alpha1.WhyOK, []string{"1 endpoint can be chosen", "by mutual TLS, on node-2"}},
		"pods, without Service": {func(s *shop) { s.q.To, s.q.Port = "deploy/api", 8080 }, true, "route", tapv1alpha1.WhyOK, []string{"the call is to a pod"}},

		"no client": {func(s *shop) { s.q.From = "deploy/wep" }, false, "client", tapv1alpha1.WhyProblem, []string{"There is no pod of deployment/wep in namespace shop"}},
		"unlabelled client": {func(s *shop) { s.web.Meshed = false }, true, "client", tapv1alpha1.WhyWarning, []string{
			"is not captured", "neither the pod nor its namespace has the label underlane.io/mesh: enabled",
		}},
		"unlabelled client, strict server": {func(s *shop) {
			s.web.Meshed = false
			s.strict()
		}, false, "policy", tapv1alpha1.WhyProblem, []string{"refused with no-identity", "the client has no identity", "the policy of pod api-1 is strict, by its namespace's annotations"}},
		"strict server": {func(s *shop) { s.strict() }, true, "policy", tapv1alpha1.WhyOK, []string{"spiffe://td/ns/shop/sa/web", "identities of the trust domain td"}},
		"skipped port, strict server": {func(s *shop) {
			s.web.Settings.SkipOutboundPorts = []mesh.PortRange{{First: 80, Last: 80}}
			s.strict()
		}, false, "policy", tapv1alpha1.WhyProblem, []string{"no-identity"}},
		"one strict pod, skipped port": {func(s *shop) {
			s.web.Settings.SkipOutboundPorts = []mesh.PortRange{{First: 80, Last: 80}}
			s.api2.Settings.Policy, s.api2.OwnSettings = mesh.PolicyStrict, true
		}, true, "policy", tapv1alpha1.WhyWarning, []string{"refused by 1 of 2 endpoints", "by its own annotations"}},
		"left out": {func(s *shop) { s.web.Meshed, s.web.LeftOut = false, "host network" }, true, "client", tapv1alpha1.WhyWarning, []string{"left out of the mesh: host network"}},

		"agent of the client away": {func(s *shop) { s.Agents["node-1"] = &Agent{Err: "connection refused"} }, true, "client", tapv1alpha1.WhyWarning, []string{
			"pass the mesh by", "the agent of its node does not answer: connection refused",
		}},
		"agent of the client away, fails closed": {func(s *shop) {
			s.Agents["node-1"] = &Agent{Err: "x"}
			s.web.Settings.FailClosed = true
		}, false, "client", tapv1alpha1.WhyProblem, []string{"fails closed (underlane.io/fail-mode)"}},
		"no agent at the server": {func(s *shop) {
			delete(s.Agents, "node-2")
			s.api.Ports[0].Endpoints = s.api.Ports[0].Endpoints[1:]
		}, false, "server", tapv1alpha1.WhyProblem, []string{"agent-down", "node-2 has no agent"}},
		"no agent at one server": {func(s *shop) { delete(s.Agents, "node-2") }, true, "server", tapv1alpha1.WhyWarning, []string{"For 1 of 2 endpoints no agent answers"}},
		"no agent at the server, plaintext allowed": {func(s *shop) {
			delete(s.Agents, "node-2")
			s.api.Ports[0].Endpoints = s.api.Ports[0].Endpoints[1:]
			s.web.Settings.PlaintextFallback, s.api2.Settings.PlaintextFallback = true, true
		}, true, "server", tapv1alpha1.WhyWarning, []string{"reached in plaintext"}},
		"not enrolled": {func(s *shop) {
			s.Agents["node-1"].Status.Pods[0].State, s.Agents["node-1"].Status.Pods[0].Reason = mesh.PodPending, "no certificate"
		}, true, "client", tapv1alpha1.WhyWarning, []string{"not enrolled on node-1: pending: no certificate"}},
		"certificate": {func(s *shop) {
			s.Agents["node-1"].Status.Certificates[0].State = "expired"
			s.api.Ports[0].Endpoints = s.api.Ports[0].Endpoints[1:]
		}, false, "policy", tapv1alpha1.WhyProblem, []string{"no-certificate"}},

		"no Service":   {func(s *shop) { s.q.To = "svc/ap" }, false, "server", tapv1alpha1.WhyProblem, []string{"There is no service/ap in namespace shop", "the namespace has api"}},
		"wrong port":   {func(s *shop) { s.q.Port = 81 }, false, "server", tapv1alpha1.WhyProblem, []string{"has no port 81", "80 (http)"}},
		"no endpoints": {func(s *shop) { s.api.Ports[0].Endpoints = nil }, false, "endpoints", tapv1alpha1.WhyProblem, []string{"no pod is behind it"}},
		"none ready": {func(s *shop) {
			s.api.Ports[0].Endpoints[0].Ready = false
			s.api.Ports[0].Endpoints[1].Ready, s.api2.Terminating = false, true
		}, false, "endpoints", tapv1alpha1.WhyProblem, []string{"no-endpoints", "pod api-1 (10.0.1.2:8080) is not chosen: it is not ready", "it is being deleted"}},
		"other zone": {func(s *shop) {
			s.web.Zone = "a"
			s.api.Ports[0].Endpoints[0].ForZones, s.api.Ports[0].Endpoints[1].ForZones = []string{"a"}, []string{"b"}
		}, true, "endpoints", tapv1alpha1.WhyOK, []string{"1 endpoint can be chosen", "pod api-2 (10.0.2.2:8080) is not chosen: it is for clients of other nodes or zones, and used while no nearer one is available (b)"}},
		"only on this node": {func(s *shop) { s.api.NodeLocal = true }, true, "endpoints", tapv1alpha1.WhyOK, []string{"internalTrafficPolicy is Local, and it is not on node-1"}},
		"ejected": {func(s *shop) {
			s.Agents["node-1"].Ejections = []*agentv1.Ejection{{Namespace: "shop", Service: "api", Port: 80, Endpoint: "10.0.2.2:8080", Cause: "unreachable"}}
		}, true, "endpoints", tapv1alpha1.WhyWarning, []string{"1 endpoint can be chosen, and 1 more after a while", "avoids it for a while: it could not be reached"}},

		"route": {func(s *shop) { s.route(mesh.RouteRule{Backends: s.backends(1, 0)}) }, true, "route", tapv1alpha1.WhyOK, []string{
			"GET /x matches rule 0 of HTTPRoute shop/r", "backend service/old in namespace shop, port 80 gets nothing: its weight is 0",
		}},
		"route to nowhere": {func(s *shop) {
			s.route(mesh.RouteRule{Backends: []mesh.RouteBackend{{Weight: 1, Invalid: "there is no Service gone", Service: mesh.ServicePortRef{Namespace: "shop", Name: "gone", Port: 80}}}})
		}, false, "route", tapv1alpha1.WhyProblem, []string{"No backend of it can be used", "there is no Service gone"}},
		"route to a Service that is not known": {func(s *shop) { s.route(mesh.RouteRule{Backends: s.backends(0, 1)}) }, false, "endpoints", tapv1alpha1.WhyProblem, []string{"there is no service/old in namespace shop"}},
		"no rule matches": {func(s *shop) {
			s.route(mesh.RouteRule{Matches: []mesh.RouteMatch{{Path: mesh.PathMatch{Kind: mesh.PathExact, Value: "/y"}}}, Backends: s.backends(1, 0)})
		}, false, "route", tapv1alpha1.WhyProblem, []string{"no rule matches GET /x", "no-route"}},
		"a header matches": {func(s *shop) {
			s.q.Headers = []string{"X-Version=2"}
			s.route(mesh.RouteRule{Matches: []mesh.RouteMatch{{Headers: []mesh.ValueMatch{{Name: "x-version", Value: "2"}}}}, Backends: s.backends(1, 0)})
		}, true, "route", tapv1alpha1.WhyOK, []string{"matches rule 0"}},
		"routes, and a client that is not captured": {func(s *shop) {
			s.web.Meshed = false
			s.route(mesh.RouteRule{Backends: s.backends(0, 1)})
		}, true, "route", tapv1alpha1.WhyWarning, []string{"they do not apply"}},

		"failures": {func(s *shop) {
			s.Recent.Edges = []tapv1alpha1.Edge{{Secured: "true", Total: &tapv1alpha1.Sums{
				Requests: 10, Success: 7, Failures: map[string]uint64{"status": 1, "connect-refused": 2}, Latency: &tapv1alpha1.Latency{P99: 12.5},
			}}}
		}, true, "recent", tapv1alpha1.WhyWarning, []string{
			"10 requests ended, 70.0 % of them successful", "at most 12.5 ms", "2 failed with connect-refused: the endpoint refused", "1 failed with status: the application's own answer", "secured: true",
		}},
		"nothing but failures": {func(s *shop) {
			s.Recent.Edges = []tapv1alpha1.Edge{{Total: &tapv1alpha1.Sums{Requests: 2, Failures: map[string]uint64{"connect-refused": 2}}}}
		}, false, "recent", tapv1alpha1.WhyProblem, []string{"2 failed with connect-refused"}},
		"no figures": {func(s *shop) { s.Recent, s.RecentErr = nil, "too many questions" }, true, "recent", tapv1alpha1.WhyUnknown, []string{"too many questions"}},
		"an agent that was not asked": {func(s *shop) { s.Agents["node-2"] = &Agent{Unasked: true} }, true, "server", tapv1alpha1.WhyOK, []string{
			"Its pods are in the mesh.", "the agent of node-2 was not asked",
		}},
		"one node's view": {func(s *shop) {
			s.Alone = true
			delete(s.Agents, "node-2")
		}, true, "server", tapv1alpha1.WhyOK, []string{"Its pods are in the mesh.", "the agent of node-2 was not asked"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShop()
			c.change(s)
			a, err := Explain(&s.q, s.Facts)
			if err != nil {
				t.Fatal(err)
			}
			text := ""
			for _, st := range a.Steps {
				if st.Name == c.step {
					text = st.Result + ": " + st.Text + "\n" + strings.Join(st.Evidence, "\n")
				}
			}
			if a.Works != c.works || !strings.HasPrefix(text, c.result+": ") {
				t.Errorf("works %v, step %s is %s; want %v and %s. All: %+v", a.Works, c.step, text, c.works, c.result, a.WhyReport)
			}
			for _, want := range c.want {
				if !strings.Contains(text, want) {
					t.Errorf("step %s is %s; want %q in it", c.step, text, want)
				}
			}
			if !a.Works && !strings.Contains(a.Conclusion, "will not work") || a.Works && !strings.Contains(a.Conclusion, "should work") {
				t.Errorf("conclusion %q, works %v", a.Conclusion, a.Works)
			}
		})
	}
}

func (s *shop) strict() {
	s.api1.Settings.Policy, s.api2.Settings.Policy = mesh.PolicyStrict, mesh.PolicyStrict
}

func (s *shop) route(rule mesh.RouteRule) {
	s.q.Path = "/x"
	s.Routes = []*mesh.Route{{Kind: "HTTPRoute", Namespace: "shop", Name: "r", Parent: mesh.ServicePortRef{Namespace: "shop", Name: "api"}, Rules: []mesh.RouteRule{rule}}}
}

func (s *shop) backends(api, old uint32) []mesh.RouteBackend {
	return []mesh.RouteBackend{
		{Weight: api, Service: mesh.ServicePortRef{Namespace: "shop", Name: "api", Port: 80}},
		{Weight: old, Service: mesh.ServicePortRef{Namespace: "shop", Name: "old", Port: 80}},
	}
}

// TestAlone: what the agent of one node does not know is no failure, and its absence in a
// cluster is one.
func TestAlone(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*shop)
		step   string
		want   string
	}{
		"client":  {func(s *shop) { s.q.From = "deploy/other" }, "client", "knows no pod of deployment/other in namespace shop"},
		"pod":     {func(s *shop) { s.q.To, s.q.Port = "deploy/other", 80 }, "server", "knows no pod of deployment/other in namespace shop"},
		"Service": {func(s *shop) { s.q.To = "svc/other" }, "server", "knows no service/other in namespace shop"},
		"backend": {func(s *shop) { s.route(mesh.RouteRule{Backends: s.backends(0, 1)}) }, "endpoints", "knows no endpoint"},
	} {
		for _, alone := range []bool{true, false} {
			s := newShop()
			s.Alone = alone
			c.change(s)
			a, err := Explain(&s.q, s.Facts)
			if err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(a.Steps, func(s tapv1alpha1.WhyStep) bool { return s.Name == c.step })
			if i < 0 {
				t.Fatalf("%s: no step %s: %+v", name, c.step, a.Steps)
			}
			got := a.Steps[i]
			if a.Works != alone || (got.Result == tapv1alpha1.WhyUnknown) != alone || strings.Contains(got.Text, c.want) != alone ||
				strings.Contains(a.Conclusion, "is not known") != alone {
				t.Errorf("%s, alone %v: works %v, %q, %+v; want %v", name, alone, a.Works, a.Conclusion, got, c.want)
			}
		}
	}
}

// TestSteps: the steps come in one order, and end where there is nothing to say any more.
func TestSteps(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*shop)
		want   []string
	}{
		"all":        {func(*shop) {}, []string{"client", "server", "policy", "route", "endpoints", "recent"}},
		"no client":  {func(s *shop) { s.q.From = "pod/x" }, []string{"client"}},
		"no Service": {func(s *shop) { s.q.To = "svc/x" }, []string{"client", "server"}},
	} {
		s := newShop()
		c.change(s)
		a, err := Explain(&s.q, s.Facts)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, st := range a.Steps {
			got = append(got, st.Name)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestNoQuestion(t *testing.T) {
	for _, q := range []tapv1alpha1.WhyQuery{
		{From: "deploy/web", To: "ns/shop"}, {From: "svc/web", To: "svc/api"}, {From: "ns/web", To: "svc/api"}, {From: "deploy", To: "svc/api"}, {From: "deploy/web", To: "svc"}, {From: "x/y", To: "svc/api"},
	} {
		if _, err := Explain(&q, &Facts{}); err == nil {
			t.Errorf("%s → %s: no error, want one", q.From, q.To)
		}
	}
}

// TestTried: the connection that was made decides.
func TestTried(t *testing.T) {
	for name, c := range map[string]struct {
		r     *agentv1.TryResponse
		works bool
		want  string
	}{
		"answered":    {&agentv1.TryResponse{Connected: true, Status: 200, Report: &agentv1.TryReport{Endpoint: "10.0.2.2:8080", Pod: "shop/api-2", Tls: "true"}}, true, "tap: it went to pod shop/api-2 (10.0.2.2:8080) with tls=true"},
		"404":         {&agentv1.TryResponse{Connected: true, Status: 404}, true, "status 404"},
		"500":         {&agentv1.TryResponse{Connected: true, Status: 500}, false, "status 500"},
		"refused":     {&agentv1.TryResponse{Error: "connection refused"}, false, "connection refused"},
		"by the mesh": {&agentv1.TryResponse{Connected: true, Status: 403, Reason: "no-identity"}, false, "tap: it failed with no-identity"},
		"passed by":   {&agentv1.TryResponse{Connected: true, Status: 200}, true, "it was not captured"},
	} {
		s := newShop()
		s.q.Try = tapv1alpha1.TryHTTP
		a, err := Explain(&s.q, s.Facts)
		if err != nil {
			t.Fatal(err)
		}
		request, err := a.TryRequest(&s.q)
		if err != nil || request.GetPod() != "web-1" || request.GetDestination() != "10.9.0.1:80" || request.GetMethod() != "GET" || request.GetPath() != "/" {
			t.Errorf("%s: asked for %v, %v; want GET / at 10.9.0.1:80 in the name of web-1", name, request, err)
		}
		c.r.Took = durationpb.New(time.Millisecond)
		a.Tried(&s.q, c.r)
		last := a.Steps[len(a.Steps)-1]
		if text := last.Text + "\n" + strings.Join(last.Evidence, "\n"); a.Works != c.works || !strings.Contains(text, c.want) {
			t.Errorf("%s: works %v, %s; want %v, %q", name, a.Works, text, c.works, c.want)
		}
	}
	for name, change := range map[string]func(*shop){
		"POST":                   func(s *shop) { s.q.Method = "POST" },
		"a pod outside the mesh": func(s *shop) { s.web.Meshed = false },
		"no client":              func(s *shop) { s.q.From = "pod/x" },
		"no destination":         func(s *shop) { s.q.Port = 81 },
	} {
		s := newShop()
		s.q.Try = tapv1alpha1.TryHTTP
		change(s)
		a, err := Explain(&s.q, s.Facts)
		if err != nil {
			t.Fatal(err)
		}
		if r, err := a.TryRequest(&s.q); err == nil {
			t.Errorf("%s: asked for %v, want an error", name, r)
		} else if a.NotTried(err); !strings.Contains(a.Steps[len(a.Steps)-1].Text, "No connection was made") {
			t.Errorf("%s: %+v", name, a.Steps)
		}
	}
}

// TestTryHTTP2: the request to a port that speaks HTTP/2 is HTTP/2, because a server of gRPC
// has no answer to HTTP/1.1, and its refusal of GET is an answer.
func TestTryHTTP2(t *testing.T) {
	recent := func(protocols ...string) func(*shop) {
		return func(s *shop) {
			s.api.Ports[0].Name = "main"
			for _, p := range protocols {
				s.Recent.Edges = append(s.Recent.Edges, tapv1alpha1.Edge{Protocol: p, Total: &tapv1alpha1.Sums{Requests: 1, Success: 1}})
			}
		}
	}
	for name, c := range map[string]struct {
		change func(*shop)
		want   agentv1.TryRequest_Protocol
	}{
		"port http":           {func(*shop) {}, agentv1.TryRequest_HTTP},
		"port grpc":           {func(s *shop) { s.api.Ports[0].Name = "grpc" }, agentv1.TryRequest_HTTP2},
		"port grpc-votes":     {func(s *shop) { s.api.Ports[0].Name = "grpc-votes" }, agentv1.TryRequest_HTTP2},
		"appProtocol":         {func(s *shop) { s.api.Ports[0].AppProtocol = "kubernetes.io/h2c" }, agentv1.TryRequest_HTTP2},
		"appProtocol http":    {func(s *shop) { s.api.Ports[0].Name, s.api.Ports[0].AppProtocol = "grpc", "http" }, agentv1.TryRequest_HTTP},
		"--grpc":              {func(s *shop) { s.q.GRPC = true }, agentv1.TryRequest_HTTP2},
		"--protocol http2":    {func(s *shop) { s.q.Try = tapv1alpha1.TryHTTP2 }, agentv1.TryRequest_HTTP2},
		"recent gRPC":         {recent("grpc", "tcp"), agentv1.TryRequest_HTTP2},
		"recent gRPC of pods": {func(s *shop) { s.q.To, s.q.Port = "deploy/api", 8080; recent("grpc")(s) }, agentv1.TryRequest_HTTP2},
		"recent of both":      {recent("http2", "http1"), agentv1.TryRequest_HTTP},
		"nothing recent":      {recent(), agentv1.TryRequest_HTTP},
		"unknown":             {func(s *shop) { recent()(s); s.Recent = nil }, agentv1.TryRequest_HTTP},
	} {
		s := newShop()
		s.q.Try = tapv1alpha1.TryHTTP
		c.change(s)
		a, err := Explain(&s.q, s.Facts)
		if err != nil {
			t.Fatal(err)
		}
		request, err := a.TryRequest(&s.q)
		if err != nil || request.GetProtocol() != c.want {
			t.Errorf("%s: %v, %v; want %v", name, request, err, c.want)
			continue
		}
		a.Tried(&s.q, &agentv1.TryResponse{Connected: true, Status: 415, Report: &agentv1.TryReport{}})
		result := tapv1alpha1.WhyWarning
		if c.want == agentv1.TryRequest_HTTP2 {
			result = tapv1alpha1.WhyOK
		}
		if got := a.Steps[len(a.Steps)-1]; got.Result != result || !a.Works {
			t.Errorf("%s: 415 is %+v, works %v; want %s, true", name, got, a.Works, result)
		}
	}
}
