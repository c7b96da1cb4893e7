package l7proxy

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"testing"

	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/state"
)

// forget takes a route of the network away.
func (o *outside) forget(r *mesh.Route) {
	o.t.Helper()
	r.Namespace, r.Egress = "shop", true
	r.Parent.Namespace, r.Parent.Name = "shop", "out"
	o.version++
	if err := o.store.Apply(state.Delta{Version: o.version, Removed: []string{state.RouteName(r)}}); err != nil {
		o.t.Fatal(err)
	}
}

// TestEgressChangesCutCopies: a copy of a request that is under way to a place outside the mesh ends when it is not
// allowed any more, and the request goes on.
func TestEgressChangesCutCopies(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("http2=%v", http2), func(t *testing.T) {
			shadow, app := newLongApp(t), newLongApp(t)
			o := &outside{newShop(t)}
			o.service("apex", app.addr)
			o.service("shadow", shadow.addr)
			port := netip.MustParseAddrPort(shadow.addr).Port()
			rule := mesh.RouteRule{Backends: []mesh.RouteBackend{to("apex", 1)}}
			rule.Filters.Mirrors = shadows("shadow")
			o.route(rule)
			o.network(true)
			name := fmt.Sprint("r", o.version)
			o.allow(mesh.LayerTCP, port)
			o.allow(mesh.LayerTCP, netip.MustParseAddrPort(app.addr).Port())
			transport := protocolTransport(http2)
			defer transport.CloseIdleConnections()
			r, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+o.to(o.services["apex"].String())+"/wait", nil)
			if err != nil {
				t.Fatal(err)
			}
			c := call(t, transport, r)
			proxytest.Eventually(t, "the request and its copy are at their servers", func() bool { return app.begun.Load() == 1 && shadow.begun.Load() == 1 })
			o.paths(mesh.RouteFilters{}, "/other")
			o.leftJudged()
			if n := shadow.cut.Load(); n != 0 || o.proxy.core.Mirrors.Active() != 1 {
				t.Errorf("%d copies cut by a change that allows them", n)
			}
			o.forget(&mesh.Route{Kind: fmt.Sprint("Route", mesh.LayerTCP), Name: name, Parent: mesh.ServicePortRef{Port: port}})
			proxytest.Eventually(t, "the copy is cut", func() bool { return shadow.cut.Load() == 1 && o.proxy.core.Mirrors.Active() == 0 })
			if dropped, cut := o.proxy.MirrorsDropped(), o.proxy.RequestsRevoked(); dropped != 1 || cut != 1 { // and not given up as too slow
				t.Errorf("%d copies are counted as dropped, and %d as cut", dropped, cut)
			}
			app.end()
			c.want(t, "200  end")
		})
	}
}

// TestEgressChangesHoldCopies: a copy that waits for the body of its request, which was let out by a
// route of the network, is not sent when that route is gone.
func TestEgressChangesHoldCopies(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("http2=%v", http2), func(t *testing.T) {
			shadow, app := newLongApp(t), newLongApp(t)
			o := &outside{newShop(t)}
			o.service("shadow", shadow.addr)
			o.network(true)
			o.paths(mesh.RouteFilters{Mirrors: shadows("shadow")}, "/cut", "/stay")
			transport := protocolTransport(http2)
			defer transport.CloseIdleConnections()
			body, more := io.Pipe()
			r, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+o.to(app.addr)+"/stay/wait", body)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("X-Kind", "stay")
			c := call(t, transport, r)
			if _, err := more.Write([]byte("begin")); err != nil {
				t.Fatal(err)
			}
			proxytest.Eventually(t, "the request is at its server", func() bool { return app.begun.Load() == 1 })
			o.paths(mesh.RouteFilters{}, "/stay")
			o.leftJudged()
			if err := more.Close(); err != nil {
				t.Fatal(err)
			}
			app.end()
			c.want(t, "200  end")
			proxytest.Eventually(t, "the copy is dropped", func() bool { return o.proxy.MirrorsDropped() == 1 })
			if n := shadow.begun.Load(); n != 0 {
				t.Errorf("%d copies were sent", n)
			}
		})
	}
}

func protocolTransport(http2 bool) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!http2)
	protocols.SetUnencryptedHTTP2(http2)
	return &http.Transport{Protocols: protocols}
}
