package l7proxy

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/l7proxy/request"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

func shadows(names ...string) (all []mesh.RouteMirror) {
	for _, name := range names {
		all = append(all, mesh.RouteMirror{Service: mesh.ServicePortRef{Namespace: "shop", Name: name, Port: 80}})
	}
	return all
}

// TestH2Mirror: every request is copied whole, and the copy's server, whether it
// is slow, or has much to say, or never answers, is nothing to the client.
func TestH2Mirror(t *testing.T) {
	const large = 3 << 20 // more than the window of a connection
	s := newShop(t)
	s.h2handler(t, "apex", func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n)
	})
	copies, answered := make(chan string, 10), make(chan error, 10)
	var held sync.Mutex // while it is, no copy is answered
	shadow, _ := serveH2C(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		copies <- fmt.Sprint(r.Method, " ", r.Host, r.URL, " ", len(body), " ", r.Header.Get("X-Ask"))
		if r.URL.Path == "/stalled" {
			stalled(r.Context())
			return
		}
		held.Lock()
		defer held.Unlock()
		_, err := io.Copy(w, proxytest.NewPattern(large))
		answered <- err
	})
	s.service("shadow", shadow, nobody(t))
	rule := mesh.RouteRule{Backends: []mesh.RouteBackend{to("apex", 1)}}
	rule.Filters.Mirrors = shadows("shadow", "missing")
	rule.Filters.RequestHeaders = &mesh.HeaderModifier{Set: []mesh.HeaderField{{Name: "X-Ask", Value: "rule"}}}
	s.route(rule)
	c := s.h2apex()
	c.do("GET", "/first", nil)
	<-copies
	<-answered
	held.Lock()
	answer := sync.OnceFunc(held.Unlock)
	defer answer()
	began := time.Now()
	c.do("GET", "/bare", nil)
	c.do("POST", "/whole", strings.NewReader("hello"))
	if _, body := c.do("POST", "/later", &paused{Reader: proxytest.NewPattern(40_000), at: 20_000, pause: 20 * time.Millisecond}); body != "40000" {
		t.Errorf("the request itself: %q", body)
	}
	c.do("GET", "/stalled", nil)
	if took := time.Since(began); took > request.MirrorTimeout/2 { // after which a copy is given up
		t.Errorf("four requests took %v: the copies hold them up", took)
	}
	answer()
	c.do("POST", "/large", proxytest.NewPattern(100_000))
	got := map[string]bool{}
	for range 4 {
		got[<-copies] = true
	}
	want := map[string]bool{"GET svc/bare 0 rule": true, "POST svc/whole 5 rule": true, "POST svc/later 40000 rule": true, "GET svc/stalled 0 rule": true}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("copies, -want +got:\n%s", d)
	}
	for range 3 {
		if err := <-answered; err != nil {
			t.Errorf("an answer that nobody wants: %v", err)
		}
	}
	// Six to nobody, and one that is too large.
	proxytest.Eventually(t, "seven copies are counted as dropped", func() bool { return s.proxy.MirrorsDropped() == 7 })
	proxytest.Eventually(t, "all but the stalled copy end", func() bool { return s.proxy.core.Mirrors.Active() == 1 })
	s.tap.Wait(t, tap.ResponseEnd, 5)

	for _, ev := range s.tap.Events() {
		if ev.Destination.Addr.String() == shadow && ev.Side == 0 { // its connection is one like others
			t.Errorf("tap shows a copy: %+v", ev)
		}
	}
}

// TestH2MirroredCalls: bounded are the copies that are under way, and calls are
// copied too.
func TestH2MirroredCalls(t *testing.T) {
	s := newShop(t)
	s.service("apex", grpcAnswers(t, echoes))
	copies := make(chan struct{}, 2*request.MaxMirrors)
	s.service("shadow", grpcAnswers(t, func(s grpc.ServerStream) error {
		copies <- struct{}{}
		stalled(s.Context())
		return nil
	}))
	rule := mesh.RouteRule{Backends: []mesh.RouteBackend{to("apex", 1)}}
	rule.Filters.Mirrors = shadows("shadow")
	s.grpcRoute(rule)
	cc := s.grpcApex()
	const more = 5
	var clients sync.WaitGroup
	var calls atomic.Int64
	for range 16 {
		clients.Go(func() {
			for calls.Add(1) <= request.MaxMirrors+more {
				got := new(wrapperspb.StringValue)
				if err := cc.Invoke(t.Context(), "/t.T/Unary", wrapperspb.String("hello"), got); err != nil || got.Value != "hello" {
					t.Errorf("got %q %v, want \"hello\"", got.Value, err)
				}
			}
		})
	}
	clients.Wait()
	for range request.MaxMirrors {
		<-copies
	}
	if now, dropped := s.proxy.core.Mirrors.Active(), s.proxy.MirrorsDropped(); now != request.MaxMirrors || dropped != more {
		t.Errorf("%d copies under way and %d dropped, want %d and %d", now, dropped, request.MaxMirrors, more)
	}
}
