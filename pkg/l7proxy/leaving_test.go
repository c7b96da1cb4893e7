package l7proxy

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/state"
	"github.com/underlane/underlane/pkg/tap"
)

// routes replaces the HTTPRoute of the network by one for these prefixes of paths.
func (o *outside) paths(filters mesh.RouteFilters, prefixes ...string) {
	o.t.Helper()
	rule := mesh.RouteRule{Backends: []mesh.RouteBackend{{Original: true, Weight: 1}}, Filters: filters}
	for _, p := range prefixes {
		rule.Matches = append(rule.Matches, mesh.RouteMatch{
			Path: mesh.PathMatch{Value: p}, Headers: []mesh.ValueMatch{{Name: "x-kind", Value: ".+", Regex: true}},
		})
	}
	r := &mesh.Route{
		Kind: "HTTPRoute", Namespace: "shop", Name: "paths", Egress: true,
		Parent: mesh.ServicePortRef{Namespace: "shop", Name: "out"}, Rules: []mesh.RouteRule{rule},
	}
	o.apply(state.Resource{Name: state.RouteName(r), Route: r})
}

// TestEgressChangesCutRequests: a request under way to the outside that an EgressNetwork does
// not allow any more is ended as one to a pod is; others go on, those on the same connection,
// too.
func TestEgressChangesCutRequests(t *testing.T) {
	var plain mesh.RouteFilters
	edited := mesh.RouteFilters{
		Rewrite:        &mesh.RouteRewrite{Hostname: "other.example"},
		RequestHeaders: &mesh.HeaderModifier{Remove: []string{"x-kind"}},
	}
	for name, tc := range map[string]struct {
		before, same, after func(o *outside)
		all                 bool   // heads are not kept: all requests are cut
		only                string // one of the protocols
	}{
		"routes": {
			func(o *outside) { o.network(true); o.paths(plain, "/cut", "/stay") },
			func(o *outside) { o.paths(plain, "/", "/stay") },
			func(o *outside) { o.paths(plain, "/stay") }, false, "",
		},
		"routes that change requests": {
			func(o *outside) { o.network(true); o.paths(edited, "/cut", "/stay") },
			func(o *outside) { o.paths(plain, "/cut", "/stay") },
			func(o *outside) { o.paths(edited, "/stay") }, false, "http2",
		},
		"the first network": {
			func(o *outside) {},
			func(o *outside) { o.network(false) },
			func(o *outside) { o.network(true) }, true, "",
		},
		"the first routes": {
			func(o *outside) { o.network(false) },
			func(o *outside) { o.paths(plain, "/other") },
			func(o *outside) { o.network(true) }, true, "http1",
		},
	} {
		for _, http2 := range []bool{false, true} {
			if tc.only != "" && (tc.only == "http2") != http2 {
				continue
			}
			t.Run(fmt.Sprintf("%s, http2=%v", name, http2), func(t *testing.T) {
				app := newLongApp(t)
				o := &outside{newShop(t)}
				tc.before(o)
				protocols := new(http.Protocols)
				protocols.SetHTTP1(!http2)
				protocols.SetUnencryptedHTTP2(http2)
				transport := &http.Transport{Protocols: protocols}
				defer transport.CloseIdleConnections()
				dst := o.to(app.addr)
				begin := func(kind, path string) *longCall {
					t.Helper()
					before := app.begun.Load()
					r, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+dst+"/"+kind+path, nil)
					if err != nil {
						t.Fatal(err)
					}
					r.Host = "api.example.com"
					r.Header.Set("X-Kind", kind)
					if path == "/grpc" {
						r.Method = "POST"
						r.Header.Set("Content-Type", "application/grpc")
						r.Header.Set("Te", "trailers")
					}
					c := call(t, transport, r)
					proxytest.Eventually(t, r.URL.Path+" is at the server", func() bool { return app.begun.Load() > before })
					return c
				}
				var cut, stay []*longCall
				paths := []string{"/download", "/wait"}
				if http2 {
					paths = append(paths, "/grpc")
				}
				for _, path := range paths {
					cut, stay = append(cut, begin("cut", path)), append(stay, begin("stay", path))
				}
				tc.same(o)
				o.leftJudged()
				if n := o.proxy.RequestsRevoked(); n != 0 {
					t.Errorf("got %d requests cut by a change that allows them", n)
				}
				tc.after(o)
				if tc.all {
					cut, stay = append(cut, stay...), nil
				}
				for _, c := range cut {
					switch {
					case strings.HasSuffix(c.path, "/wait"):
						c.want(t, "403 egress-denied an EgressNetwork does not allow this destination outside the mesh")
					case strings.HasSuffix(c.path, "/grpc"):
						c.want(t, "200 egress-denied7 begin")
					default:
						c.want(t, "200  begin cut")
					}
				}
				proxytest.Eventually(t, "the server sees the end", func() bool { return int(app.cut.Load()) == len(cut) })
				proxytest.Eventually(t, "the cut requests are counted", func() bool { return int(o.proxy.RequestsRevoked()) == len(cut) })
				proxytest.Eventually(t, "the reasons in tap", func() bool { return o.tap.Count(tap.ResponseEnd, mesh.ReasonEgressDenied) == len(cut) })
				app.end()
				for _, c := range stay {
					switch {
					case strings.HasSuffix(c.path, "/wait"):
						c.want(t, "200  end")
					case strings.HasSuffix(c.path, "/grpc"):
						c.want(t, "200 0 begin end")
					default:
						c.want(t, "200  begin end")
					}
				}
			})
		}
	}
}

// leftJudged waits until what leaves the mesh was judged by the newest state twice: the second
// time after the moment in which heads that are not kept are excused.
func (o *outside) leftJudged() {
	o.t.Helper()
	before := o.proxy.leftJudged.Load()
	proxytest.Eventually(o.t, "what leaves the mesh is judged", func() bool { return o.proxy.leftJudged.Load() > before+1 })
}

// TestEgressChangesCutUpgrades: an upgraded connection is a request under way.
func TestEgressChangesCutUpgrades(t *testing.T) {
	app := newLongApp(t)
	o := &outside{newShop(t)}
	o.network(true)
	o.paths(mesh.RouteFilters{}, "/cut", "/stay")
	cut, stay := upgraded(t, o.to(app.addr), "/cut/ws"), upgraded(t, o.to(app.addr), "/stay/ws")
	o.paths(mesh.RouteFilters{}, "/stay")
	if _, err := io.ReadAll(cut.r); !is(err, syscall.ECONNRESET) {
		t.Errorf("got %v, want a reset", err)
	}
	proxytest.Eventually(t, "the reason in tap", func() bool { return o.tap.Count(tap.ResponseEnd, mesh.ReasonEgressDenied) == 1 })
	stay.send("ping\n")
	stay.expect("ping\n")
}

// TestEgressChangesCutServices: a request that a Service's own routes have sent to an endpoint
// outside the mesh is judged by the port of the endpoint, as when it began.
func TestEgressChangesCutServices(t *testing.T) {
	app := newLongApp(t)
	o := &outside{newShop(t)}
	o.service("apex", app.addr)
	o.route(mesh.RouteRule{Backends: []mesh.RouteBackend{to("apex", 1)}})
	o.network(true)
	o.allow(mesh.LayerTCP, netip.MustParseAddrPort(app.addr).Port())
	r, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+o.to(o.services["apex"].String())+"/wait", nil)
	if err != nil {
		t.Fatal(err)
	}
	c := call(t, &http.Transport{}, r)
	proxytest.Eventually(t, "the request is at the server", func() bool { return app.begun.Load() == 1 })
	o.paths(mesh.RouteFilters{}, "/wait")
	o.leftJudged()
	if n := o.proxy.RequestsRevoked(); n != 0 {
		t.Errorf("got %d requests cut by a change that allows them", n)
	}
	o.version++
	if err := o.store.Apply(state.Delta{Version: o.version, Removed: []string{state.RouteName(&mesh.Route{
		Kind: fmt.Sprint("Route", mesh.LayerTCP), Namespace: "shop", Name: fmt.Sprint("r", 3), Egress: true,
		Parent: mesh.ServicePortRef{Namespace: "shop", Name: "out", Port: netip.MustParseAddrPort(app.addr).Port()},
	})}}); err != nil {
		t.Fatal(err)
	}
	c.want(t, "403 egress-denied an EgressNetwork does not allow this destination outside the mesh")
}
