package l7proxy

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/l7proxy/upstream"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/rawio"
)

// counted serves h at HTTP/1 and HTTP/2 and counts the connections.
func counted(t *testing.T, h http.HandlerFunc) (addr string, conns *atomic.Int32) {
	t.Helper()
	conns = new(atomic.Int32)
	srv := httptest.NewUnstartedServer(h)
	srv.Config.Protocols = new(http.Protocols)
	srv.Config.Protocols.SetHTTP1(true)
	srv.Config.Protocols.SetUnencryptedHTTP2(true)
	srv.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			conns.Add(1)
		}
	}
	srv.Start()
	t.Cleanup(srv.Close)
	return srv.Listener.Addr().String(), conns
}

func clientOf(t *testing.T, http2 bool) *http.Client {
	tr := &http.Transport{Protocols: new(http.Protocols), MaxIdleConnsPerHost: 100}
	tr.Protocols.SetHTTP1(!http2)
	tr.Protocols.SetUnencryptedHTTP2(http2)
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 30 * time.Second}
}

// short is the time of requests that are to be late.
const short = 200 * time.Millisecond

func getReason(t *testing.T, c *http.Client, url string) (status int, reason string) {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	return resp.StatusCode, resp.Header.Get("Underlane-Reason")
}

// TestTimeOutBlamesNobody: a request whose time is over takes its own connection
// with it, no other, and its endpoint stays in.
func TestTimeOutBlamesNobody(t *testing.T) {
	for name, http2 := range map[string]bool{"HTTP/1": false, "HTTP/2": true} {
		for limit, timeouts := range map[string]mesh.RouteTimeouts{
			"request":        {Request: short},
			"backendRequest": {BackendRequest: short},
		} {
			t.Run(name+" "+limit, func(t *testing.T) {
				const idle = 4
				together := make(chan struct{})
				var waiting atomic.Int32
				h := func(w http.ResponseWriter, r *http.Request) {
					switch r.URL.Path {
					case "/slow":
						<-r.Context().Done()
					case "/together":
						if waiting.Add(1) == idle {
							close(together)
						}
						<-together
					}
					io.WriteString(w, "ok")
				}
				addr, conns := counted(t, h)
				other, otherConns := counted(t, h)
				s := newShop(t)
				s.service("apex", addr, other)
				s.service("one", addr)
				// Without limits: makes idle connections to addr.
				quick := clientOf(t, http2)
				one := "http://" + s.to(s.services["one"].String())
				answers := make(chan int, idle)
				for range idle {
					go func() {
						resp, err := quick.Get(one + "/together")
						if err != nil {
							t.Error(err)
							answers <- 0
							return
						}
						_, _ = io.Copy(io.Discard, resp.Body)
						resp.Body.Close()
						answers <- resp.StatusCode
					}()
				}
				for range idle {
					if status := <-answers; status != http.StatusOK {
						t.Fatalf("status %d", status)
					}
				}
				s.route(
					mesh.RouteRule{
						Matches:  []mesh.RouteMatch{{Path: mesh.PathMatch{Kind: mesh.PathPrefix, Value: "/slow"}}},
						Backends: []mesh.RouteBackend{to("apex", 1)}, Timeouts: timeouts,
					},
					mesh.RouteRule{Backends: []mesh.RouteBackend{to("apex", 1)}},
				)
				apex := "http://" + s.to(s.services["apex"].String())
				client := clientOf(t, http2)
				for range 20 {
					if status, _ := getReason(t, client, apex+"/fast"); status != http.StatusOK {
						t.Fatalf("status %d", status)
					}
				}
				before := conns.Load() + otherConns.Load()
				const slow = 3
				for range slow {
					if status, reason := getReason(t, client, apex+"/slow"); status != http.StatusGatewayTimeout || reason != "timeout" {
						t.Errorf("got %d %q, want 504 timeout", status, reason)
					}
				}
				if n := s.proxy.Ejections()["unreachable"]; n > 0 {
					t.Errorf("%d endpoints are ejected: %+v", n, s.proxy.Ejected())
				}
				for range 20 {
					if status, _ := getReason(t, client, apex+"/fast"); status != http.StatusOK {
						t.Errorf("status %d", status)
					}
				}
				// At most what the slow requests took is made again.
				if made := conns.Load() + otherConns.Load() - before; made > slow {
					t.Errorf("%d new connections after %d time-outs", made, slow)
				}
			})
		}
	}
}

// TestLateDialTells: that nobody is there is noticed also where requests have less
// time than it takes to notice.
func TestLateDialTells(t *testing.T) {
	for name, http2 := range map[string]bool{"HTTP/1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			s := newShop(t)
			s.proxy.upstream.Limits.Failover = time.Second
			dead := deaf(t)
			alive, _ := counted(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") })
			s.service("apex", dead.Addr().String(), alive)
			s.route(mesh.RouteRule{Backends: []mesh.RouteBackend{to("apex", 1)}, Timeouts: mesh.RouteTimeouts{Request: short}})
			client, url := clientOf(t, http2), "http://"+s.to(s.services["apex"].String())
			proxytest.Eventually(t, "the dead endpoint is ejected", func() bool {
				switch status, reason := getReason(t, client, url); {
				case status == http.StatusOK:
				case status != http.StatusGatewayTimeout || reason != "timeout":
					t.Fatalf("got %d %q, want 504 timeout", status, reason)
				}
				return s.proxy.Ejections()["unreachable"] > 0
			})
			if ejected := s.proxy.Ejected(); len(ejected) != 1 || ejected[0].Endpoint != mustAddr(dead.Addr().String()) {
				t.Errorf("%+v", ejected)
			}
		})
	}
}

// slowNetwork takes its time over every connection.
type slowNetwork struct {
	upstream.Network
	takes time.Duration
}

func (n *slowNetwork) Dial(ctx context.Context, from string, dst netip.AddrPort) (*rawio.Conn, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(n.takes):
	}
	return n.Network.Dial(ctx, from, dst)
}

// TestLateDialServesTheNext: where connecting takes longer than a request may, the
// first requests are in vain, but not all.
func TestLateDialServesTheNext(t *testing.T) {
	for name, http2 := range map[string]bool{"HTTP/1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			s := newShop(t)
			s.proxy.upstream.Network = &slowNetwork{s.proxy.upstream.Network, 3 * short}
			h := func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") }
			one, _ := counted(t, h)
			other, _ := counted(t, h)
			s.service("apex", one, other)
			s.route(mesh.RouteRule{Backends: []mesh.RouteBackend{to("apex", 1)}, Timeouts: mesh.RouteTimeouts{Request: short}})
			client, url := clientOf(t, http2), "http://"+s.to(s.services["apex"].String())
			proxytest.Eventually(t, "a request is answered", func() bool {
				status, reason := getReason(t, client, url)
				if status != http.StatusOK && (status != http.StatusGatewayTimeout || reason != "timeout") {
					t.Fatalf("got %d %q, want 200, or 504 timeout", status, reason)
				}
				return status == http.StatusOK
			})
			if n := s.proxy.Ejections()["unreachable"]; n > 0 {
				t.Errorf("%d endpoints are ejected: %+v", n, s.proxy.Ejected())
			}
		})
	}
}
