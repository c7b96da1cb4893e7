package l7proxy

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/state"
	"github.com/underlane/underlane/pkg/tap"
)

// newGate is a shop whose client is an ingress. The Service apex has one endpoint, which
// says apex and what override fields it has got, and routes that send /blue to blue.
func newGate(t *testing.T) (s *shop, pod string) {
	s = newShop(t)
	s.local.Settings.Ingress = true
	pod = serveAt(t, "127.0.0.1", fieldsOf("apex"))
	s.service("apex", pod)
	s.service("blue", serveAt(t, "127.0.0.2", fieldsOf("blue")))
	s.service("other", serveAt(t, "127.0.0.3", fieldsOf("other")))
	s.service("gone")
	s.route(mesh.RouteRule{
		Matches:  []mesh.RouteMatch{{Path: mesh.PathMatch{Kind: mesh.PathPrefix, Value: "/blue"}}},
		Backends: []mesh.RouteBackend{to("blue", 1)},
	}, mesh.RouteRule{
		Matches:  []mesh.RouteMatch{{Path: mesh.PathMatch{Kind: mesh.PathPrefix, Value: "/moved"}}},
		Backends: []mesh.RouteBackend{to("blue", 1)},
		Filters:  mesh.RouteFilters{Redirect: &mesh.RouteRedirect{Status: 302}},
	}, mesh.RouteRule{Backends: []mesh.RouteBackend{to("apex", 1)}})
	s.tell(pod)
	return s, pod
}

// serveAt returns the address of a server of HTTP/1 and HTTP/2, each of which needs an
// address of its own, as a pod has.
func serveAt(t *testing.T, ip string, h http.HandlerFunc) string {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(ip, "0"))
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(h)
	srv.Listener.Close()
	srv.Listener = l
	srv.Config.Protocols = new(http.Protocols)
	srv.Config.Protocols.SetHTTP1(true)
	srv.Config.Protocols.SetUnencryptedHTTP2(true)
	srv.Start()
	t.Cleanup(srv.Close)
	return l.Addr().String()
}

// tell applies the controller's answer about the address of a pod.
func (s *shop) tell(pod string) {
	s.t.Helper()
	addr := netip.MustParseAddrPort(pod).Addr()
	s.apply(state.Resource{Name: state.AddressName(addr), Address: &state.Address{Addr: addr}})
}

// fieldsOf answers with a word and the override fields of the request.
func fieldsOf(word string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %q %q", word, r.Header.Values("Underlane-Dst-Override"), r.Header.Values("L5d-Dst-Override"))
	}
}

// TestIngress: what a request of an ingress to the address of a pod becomes.
func TestIngress(t *testing.T) {
	const (
		none  = ` [] []`
		apex  = "underlane-dst-override: apex.shop.svc.cluster.local:80\r\n"
		l5d   = "l5d-dst-override: Apex.shop.svc.cluster.local\r\n"
		other = "l5d-dst-override: other.shop.svc.cluster.local:80\r\n"
	)
	for name, c := range map[string]struct {
		path, host, fields string
		body               string // "": it is refused with status and reason
		status             int
		reason             mesh.Reason
		service            string // in tap
	}{
		"our field":                   {path: "/blue", host: "example.com", fields: apex, body: "blue" + none, service: "apex"},
		"Linkerd's field":             {path: "/blue", host: "example.com", fields: l5d, body: "blue" + none, service: "apex"},
		"both, the same":              {path: "/blue", host: "a", fields: apex + strings.Replace(apex, "underlane", "l5d", 1), body: "blue" + none, service: "apex"},
		"another rule":                {path: "/", host: "example.com", fields: apex, body: "apex" + none, service: "apex"},
		"authority":                   {path: "/blue", host: "apex.shop.svc.cluster.local", body: "blue" + none, service: "apex"},
		"short authority":             {path: "/blue", host: "apex.shop:8080", body: "blue" + none, service: "apex"},
		"authority of another":        {path: "/blue", host: "other.shop.svc.cluster.local", body: "apex" + none},
		"authority of none":           {path: "/blue", host: "example.com", body: "apex" + none},
		"field beside an authority":   {path: "/", host: "other.shop.svc.cluster.local", fields: apex, body: "apex" + none, service: "apex"},
		"field of another":            {path: "/", host: "a", fields: other, status: 502, reason: mesh.ReasonBadOverride},
		"field of one without a pod":  {path: "/", host: "a", fields: "l5d-dst-override: gone.shop.svc\r\n", status: 502, reason: mesh.ReasonBadOverride},
		"field of an unknown Service": {path: "/", host: "a", fields: "l5d-dst-override: no.shop.svc\r\n", status: 502, reason: mesh.ReasonBadOverride},
		"field of no Service":         {path: "/", host: "a", fields: "l5d-dst-override: example\r\n", status: 502, reason: mesh.ReasonBadOverride},
		"field of a bad port":         {path: "/", host: "a", fields: "l5d-dst-override: apex.shop:99999\r\n", status: 502, reason: mesh.ReasonBadOverride},
		"field of another port":       {path: "/", host: "a", fields: "l5d-dst-override: apex.shop:81\r\n", status: 503, reason: mesh.ReasonNoEndpoints, service: "apex"},
		"empty field":                 {path: "/", host: "a", fields: "l5d-dst-override:\r\n", status: 502, reason: mesh.ReasonBadOverride},
		"two fields, not the same":    {path: "/", host: "a", fields: apex + other, status: 502, reason: mesh.ReasonBadOverride},
		"one field twice":             {path: "/", host: "a", fields: other + strings.Replace(apex, "underlane", "l5d", 1), status: 502, reason: mesh.ReasonBadOverride},
		"redirect":                    {path: "/moved", host: "a", fields: apex, status: 302, service: "apex"},
	} {
		for _, version := range []string{"HTTP/1.1", "HTTP/2"} {
			t.Run(name+", "+version, func(t *testing.T) {
				s, pod := newGate(t)
				var status int
				var body, reason string
				if version == "HTTP/1.1" {
					client := s.dial(pod)
					client.send("GET " + c.path + " HTTP/1.1\r\nHost: " + c.host + "\r\n" + c.fields + "\r\n")
					resp, text := client.response("GET")
					status, body, reason = resp.StatusCode, text, resp.Header.Get("Underlane-Reason")
				} else {
					status, body, reason = s.h2gate(t, pod, c.path, c.host, c.fields)
				}
				want := c.status
				if want == 0 {
					want = 200
				}
				if status != want || reason != c.reason.String() || c.body != "" && body != c.body {
					t.Errorf("status %d, reason %q: %s; want %d, %q: %s", status, reason, body, want, c.reason, c.body)
				}
				e := s.tap.Wait(t, tap.ResponseEnd, 0)
				service := ""
				if e.Service != nil {
					service = e.Service.Name
				}
				if service != c.service || e.Reason != c.reason {
					t.Errorf("tap has the Service %q and the reason %v, want %q and %v", service, e.Reason, c.service, c.reason)
				}
			})
		}
	}
}

// h2gate makes one request over HTTP/2 to pod.
func (s *shop) h2gate(t *testing.T, pod, path, host, fields string) (status int, body, reason string) {
	t.Helper()
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequest("GET", "http://"+s.to(pod)+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = host
	for line := range strings.SplitSeq(strings.TrimSpace(fields), "\r\n") {
		if name, value, ok := strings.Cut(line, ":"); ok {
			req.Header.Add(name, strings.TrimSpace(value))
		}
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text), resp.Header.Get("Underlane-Reason")
}

// TestNoIngress: the fields and the authority mean nothing in the requests of other pods,
// which arrive as they are.
func TestNoIngress(t *testing.T) {
	s, pod := newGate(t)
	s.local.Settings.Ingress = false
	const fields = "underlane-dst-override: apex.shop:80\r\nl5d-dst-override: other.shop:80\r\n"
	want := `apex ["apex.shop:80"] ["other.shop:80"]`
	c := s.dial(pod)
	c.send("GET /blue HTTP/1.1\r\nHost: apex.shop.svc\r\n" + fields + "\r\n")
	if _, body := c.response("GET"); body != want {
		t.Errorf("HTTP/1.1: %s", body)
	}
	if _, body, _ := s.h2gate(t, pod, "/blue", "apex.shop.svc", fields); body != want {
		t.Errorf("HTTP/2: %s", body)
	}
}

// TestIngressPerRequest: the requests of one connection go to the Services that each names,
// with their bodies.
func TestIngressPerRequest(t *testing.T) {
	s := newShop(t)
	s.local.Settings.Ingress = true
	echo := func(word string) string {
		return serve(t, func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%s %d", word, len(b))
		})
	}
	pod := echo("shared")
	s.service("one", pod)
	s.service("two", pod)
	s.handler("blue", says("blue"))
	for _, name := range []string{"one", "two"} {
		r := &mesh.Route{
			Kind: "HTTPRoute", Namespace: "shop", Name: name, Parent: mesh.ServicePortRef{Namespace: "shop", Name: name},
			Rules: []mesh.RouteRule{{
				Filters:  mesh.RouteFilters{ResponseHeaders: &mesh.HeaderModifier{Set: []mesh.HeaderField{{Name: "x-route", Value: name}}}},
				Backends: []mesh.RouteBackend{to(name, 1)},
			}},
		}
		s.apply(state.Resource{Name: state.RouteName(r), Route: r})
	}
	s.tell(pod)
	c := s.dial(pod)
	for i, name := range []string{"one", "two", "", "one", "one"} {
		size := 100 * i * i * i * i * i * i
		head := fmt.Sprintf("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n", size)
		if name != "" {
			head += "l5d-dst-override: " + name + ".shop:80\r\n"
		}
		c.send(head + "\r\n" + string(bytes.Repeat([]byte{'x'}, size)))
		resp, body := c.response("POST")
		if got := resp.Header.Get("X-Route"); got != name || body != fmt.Sprintf("shared %d", size) {
			t.Errorf("%q: by the route %q: %s", name, got, body)
		}
	}
}
