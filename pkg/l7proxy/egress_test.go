package l7proxy

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/state"
	"github.com/underlane/underlane/pkg/tap"
)

// outside is a client whose namespace has an EgressNetwork, and servers outside the mesh.
type outside struct{ *shop }

// network puts an EgressNetwork of the servers' addresses in force.
func (o *outside) network(deny bool, ranges ...string) {
	o.t.Helper()
	n := &mesh.EgressNetwork{Namespace: "shop", Name: "out", Deny: deny}
	for _, r := range append(ranges, "127.0.0.0/8") {
		n.Networks = append(n.Networks, mesh.EgressRange{CIDR: netip.MustParsePrefix(r)})
	}
	o.apply(state.Resource{Name: state.EgressName("shop", "out"), Egress: n})
}

// allow attaches a route to the network.
func (o *outside) allow(layer mesh.RouteLayer, port uint16, hosts ...string) {
	o.t.Helper()
	o.attach(layer, port, mesh.RouteRule{Backends: []mesh.RouteBackend{{Original: true, Weight: 1}}}, hosts...)
}

func (o *outside) attach(layer mesh.RouteLayer, port uint16, rule mesh.RouteRule, hosts ...string) {
	o.t.Helper()
	r := &mesh.Route{
		Kind: fmt.Sprint("Route", layer), Namespace: "shop", Name: fmt.Sprint("r", o.version), Layer: layer, Egress: true, Hostnames: hosts,
		Parent: mesh.ServicePortRef{Namespace: "shop", Name: "out", Port: port}, Rules: []mesh.RouteRule{rule},
	}
	o.apply(state.Resource{Name: state.RouteName(r), Route: r})
}

func port(addr string) uint16 { return mustAddr(addr).Port() }

// ask makes a request with this Host and these fields (NAME, VALUE, …) to dst, and returns
// the status, the reason and the body.
func (o *outside) ask(dst, host, path string, http2 bool, fields ...string) string {
	o.t.Helper()
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!http2)
	protocols.SetUnencryptedHTTP2(http2)
	transport := &http.Transport{Protocols: protocols}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(o.t.Context(), "GET", "http://"+o.to(dst)+path, nil)
	if err != nil {
		o.t.Fatal(err)
	}
	req.Host = host
	for i := 0; i+1 < len(fields); i += 2 {
		req.Header.Add(fields[i], fields[i+1])
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		o.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		o.t.Fatal(err)
	}
	if resp.StatusCode != 200 {
		return fmt.Sprint(resp.StatusCode, " ", resp.Header.Get("Underlane-Reason"))
	}
	return fmt.Sprint("200 ", string(body))
}

const denied403 = "403 egress-denied"

// TestEgressRequests: requests to addresses outside the mesh go by their name, whatever the
// protocol.
func TestEgressRequests(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("http2=%v", http2), func(t *testing.T) {
			o := &outside{newShop(t)}
			app := webApp(t)
			expect := func(want string, asked ...string) {
				t.Helper()
				for _, host := range asked {
					if got := o.ask(app, host, "/a", http2); got != want {
						t.Errorf("%s: got %q, want %q", host, got, want)
					}
				}
			}
			expect("200 ok", "api.example.com") // without a network
			o.network(false)
			expect("200 ok", "api.example.com")
			o.network(true)
			expect(denied403, "api.example.com")
			var e tap.Event // the end of another response may come after it
			proxytest.Eventually(t, "a refusal is in tap", func() bool {
				events := o.tap.Events()
				i := slices.IndexFunc(events, func(e tap.Event) bool { return e.Kind == tap.ResponseEnd && e.Reason != mesh.ReasonNone })
				if i >= 0 {
					e = events[i]
				}
				return i >= 0
			})
			if e.Reason != mesh.ReasonEgressDenied || e.Outside != "api.example.com" || e.Route == nil || e.Route.Kind != "EgressNetwork" || e.Rule != "default" {
				t.Errorf("in tap: reason %s, outside %q, route %+v, rule %q", e.Reason, e.Outside, e.Route, e.Rule)
			}
			o.allow(mesh.LayerHTTP, 0, "api.example.com", "*.cdn.example.com")
			expect("200 ok", "api.example.com", "API.example.com:80", "api.example.com.", "a.cdn.example.com", "a.b.cdn.example.com")
			expect(denied403, "example.com", "cdn.example.com", "xapi.example.com", "api.example.com.evil.org", app)
			o.attach(mesh.LayerHTTP, port(app), mesh.RouteRule{
				Matches: []mesh.RouteMatch{{Path: mesh.PathMatch{Value: "/a"}}},
				Filters: mesh.RouteFilters{Redirect: &mesh.RouteRedirect{Scheme: "https", Status: 301}},
			}, "moved.example.com")
			expect("301 ", "moved.example.com")
			o.attach(mesh.LayerHTTP, port(app)+1, mesh.RouteRule{Backends: []mesh.RouteBackend{{Original: true, Weight: 1}}})
			expect(denied403, "example.com") // of another port

			// Back into the cluster.
			o.service("inside", serve(t, says("inside")))
			o.attach(mesh.LayerHTTP, 0, mesh.RouteRule{Backends: []mesh.RouteBackend{to("inside", 1)}}, "proxied.example.com")
			if !http2 {
				expect("200 inside GET proxied.example.com/a ", "proxied.example.com")
			}
		})
	}
}

// TestEgressReadings: a path that servers read in several ways does not slip past the routes of a
// network that denies, in either protocol. One that allows is asked about the path as it is sent.
func TestEgressReadings(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		o := &outside{newShop(t)}
		app := webApp(t)
		rule := mesh.RouteRule{
			Matches:  []mesh.RouteMatch{{Path: mesh.PathMatch{Value: "/public"}}},
			Backends: []mesh.RouteBackend{{Original: true, Weight: 1}},
		}
		o.attach(mesh.LayerHTTP, port(app), rule, "api.example.com")
		for _, deny := range []bool{true, false} {
			o.network(deny)
			for path, passes := range map[string]bool{
				"/public/a?q=/../x": true, "/public/a%20b": true, "/public/a;x=1": true, "/public//a": true, "/public/x/../a": true,
				"/public/../admin": false, "/public/%2e%2e/admin": false, "/public/..;/admin": false, "/public%2f..%2fadmin": false, "//admin": false, "/admin": false,
			} {
				want := denied403
				if passes || !deny {
					want = "200 ok"
				}
				if got := o.ask(app, "api.example.com", path, http2); got != want {
					t.Errorf("http2 %v, deny %v, %s: got %q, want %q", http2, deny, path, got, want)
				}
			}
		}
	}
}

// TestEgressTLS: the server name of TLS decides, and TCPRoutes about all else.
func TestEgressTLS(t *testing.T) {
	o := &outside{newShop(t)}
	srv := httptest.NewTLSServer(says("tls"))
	t.Cleanup(srv.Close)
	dst := srv.Listener.Addr().String()
	opened := func(name string) error {
		t.Helper()
		d := tls.Dialer{NetDialer: &net.Dialer{Timeout: time.Minute}, Config: &tls.Config{InsecureSkipVerify: true, ServerName: name}}
		c, err := d.DialContext(t.Context(), "tcp", o.to(dst))
		if err == nil {
			c.Close()
		}
		return err
	}
	expect := func(is bool, names ...string) {
		t.Helper()
		for _, name := range names {
			if err := opened(name); (err == nil) != is {
				t.Errorf("%q: got %v, want it let through: %v", name, err, is)
			}
		}
	}
	o.network(true)
	expect(false, "api.example.com")
	e := o.tap.Wait(t, tap.ConnClose, 0)
	if e.Reason != mesh.ReasonEgressDenied || e.Protocol != "tls" || e.SNI != "api.example.com" || e.Outside != "api.example.com" || !e.Reset {
		t.Errorf("in tap: %+v", e)
	}
	o.allow(mesh.LayerTLS, port(dst), "api.example.com", "*.cdn.example.com")
	expect(true, "api.example.com", "x.cdn.example.com")
	expect(false, "", "example.com", "cdn.example.com", "api.example.com.evil.org")
	if got := o.ask(dst, "api.example.com", "/", false); got != denied403 {
		t.Errorf("HTTP in plaintext: got %q, want %q", got, denied403)
	}
	// A hello in pieces is waited for, and the server is not connected to before.
	proxytest.Eventually(t, "the connections before are closed", func() bool { return o.connected() == 0 })
	c := dialTCP(t, o.to(dst))
	hello := clientHello(t, "api.example.com")
	c.send(string(hello[:7]))
	time.Sleep(4 * tellTime)
	if now := o.connected(); now != 0 {
		t.Errorf("%d connections to the server while its name is not known, want none", now)
	}
	c.send(string(hello[7:]))
	if _, err := c.r.ReadByte(); err != nil {
		t.Errorf("a hello in pieces: %v", err)
	}
	c.Close()

	// A TCPRoute is about what no other route is about.
	o.allow(mesh.LayerTCP, port(dst))
	expect(false, "example.com")
	expect(true, "api.example.com")
}

// connected returns the connections that are open to servers.
func (o *outside) connected() int { return o.conns() }

// clientHello returns the first record of a handshake.
func clientHello(t *testing.T, name string) []byte {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	go func() { _ = tls.Client(a, &tls.Config{ServerName: name}).Handshake() }()
	buf := make([]byte, 16<<10)
	n, err := b.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return buf[:n]
}

// TestEgressStreams: connections that are neither HTTP nor TLS, in which either side speaks
// first.
func TestEgressStreams(t *testing.T) {
	o := &outside{newShop(t)}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.WriteString(c, "hello\n")
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	dst := l.Addr().String()
	greeted := func() error {
		c, err := net.Dial("tcp", o.to(dst))
		if err != nil {
			return err // a reset may come before the client knows that it is connected
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		_, err = io.ReadFull(c, make([]byte, 6))
		return err
	}
	if err := greeted(); err != nil {
		t.Fatal(err)
	}
	o.network(true)
	if err := greeted(); err == nil {
		t.Error("a network that denies everything lets a server speak")
	}
	o.allow(mesh.LayerTCP, port(dst))
	if err := greeted(); err != nil {
		t.Error(err)
	}
	open := dialTCP(t, o.to(dst))
	if _, err := open.r.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	// The route is gone: so is the connection.
	o.version++
	if err := o.store.Apply(state.Delta{Version: o.version, Removed: []string{state.RouteName(&mesh.Route{
		Kind: fmt.Sprint("Route", mesh.LayerTCP), Namespace: "shop", Name: "r1", Egress: true,
		Parent: mesh.ServicePortRef{Namespace: "shop", Name: "out", Port: port(dst)},
	})}}); err != nil {
		t.Fatal(err)
	}
	if _, err := open.r.ReadByte(); err == nil {
		t.Error("the connection is still open")
	}
	proxytest.Eventually(t, "the cut connection is in tap", func() bool { return o.tap.Count(tap.ConnClose, mesh.ReasonEgressDenied) == 2 })
}

// TestEgressServices: a Service whose endpoints are outside the mesh is no way around.
func TestEgressServices(t *testing.T) {
	o := &outside{newShop(t)}
	app := webApp(t)
	o.service("apex", app)
	vip := o.services["apex"].String()
	for _, tc := range []struct {
		do   func()
		want string
	}{
		{func() {}, "200 ok"},
		{func() { o.network(true) }, denied403},
		{func() { o.allow(mesh.LayerHTTP, port(app), "api.example.com") }, "200 ok"},
		// The Service's own routes choose the backend; then the names are not compared.
		{func() { o.route(mesh.RouteRule{Backends: []mesh.RouteBackend{to("apex", 1)}}) }, denied403},
		{func() { o.network(false) }, "200 ok"},
	} {
		tc.do()
		if got := o.ask(vip, "api.example.com", "/", false); got != tc.want {
			t.Errorf("got %q, want %q", got, tc.want)
		}
	}
}

// TestEgressOverride: a request of an ingress that names a Service with endpoints outside the
// mesh, by a field or by its authority, is no way around either. As with a Service that has
// routes, the names of requests are not compared: the network has to allow the port.
func TestEgressOverride(t *testing.T) {
	const apex = "apex.shop.svc.cluster.local"
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("http2=%v", http2), func(t *testing.T) {
			o := &outside{newShop(t)}
			o.local.Settings.Ingress = true
			app := webApp(t)
			o.service("apex", app)
			vip := o.services["apex"].String()
			o.tell(app)
			o.tell(vip)
			for _, step := range []struct {
				what  string
				do    func()
				named string // of what names the Service
				plain string // of what names api.example.com
			}{
				{"no network", func() {}, "200 ok", "200 ok"},
				{"Deny", func() { o.network(true) }, denied403, denied403},
				{"a name is allowed", func() { o.allow(mesh.LayerHTTP, 0, "api.example.com", apex) }, denied403, "200 ok"},
				{"the port is allowed", func() { o.allow(mesh.LayerTCP, port(app)) }, "200 ok", "200 ok"},
				{"Allow", func() { o.network(false) }, "200 ok", "200 ok"},
			} {
				step.do()
				for how, got := range map[string]string{
					"by Linkerd's field":              o.ask(app, "api.example.com", "/", http2, "l5d-dst-override", apex+":80"),
					"by our field":                    o.ask(app, "api.example.com", "/", http2, "underlane-dst-override", apex+":80"),
					"by the field, at the cluster IP": o.ask(vip, "api.example.com", "/", http2, "l5d-dst-override", apex+":80"),
					"by its authority":                o.ask(app, apex, "/", http2),
				} {
					if got != step.named {
						t.Errorf("%s, named %s: got %q, want %q", step.what, how, got, step.named)
					}
				}
				if got := o.ask(app, "api.example.com", "/", http2); got != step.plain {
					t.Errorf("%s, no Service named: got %q, want %q", step.what, got, step.plain)
				}
			}
		})
	}
}
