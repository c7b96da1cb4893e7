package l7proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/l7proxy/upstream"
	"github.com/underlane/underlane/pkg/listener"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/rawio"
	"github.com/underlane/underlane/pkg/state"
	"github.com/underlane/underlane/pkg/tap"
)

// mortal is a pod on another node that serves HTTP/1, HTTP/2 and opaque bytes at an
// address of its own, and ends when the test wants.
type mortal struct {
	addr netip.AddrPort
	asks atomic.Int32 // requests for /hold
}

// mortals are pods at 127.0.0.2 and so on, the endpoints of a service. The first request
// for /hold that one of them gets is held to the pod's end, and told to held.
type mortals struct {
	*env
	pods []*mortal
	vip  string
	held chan *mortal
}

func newMortals(t *testing.T, n int, meshed bool) *mortals {
	t.Helper()
	m := &mortals{env: newEnv(t), vip: "10.9.0.1:80", held: make(chan *mortal, 1)}
	svc := &mesh.Service{
		Name: "server", Namespace: "default", VIPs: []netip.Addr{netip.MustParseAddr("10.9.0.1")},
		Ports: []mesh.ServicePort{{Port: 80}},
	}
	var resources []state.Resource
	var first atomic.Bool
	for i := range n {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.%d:0", i+2))
		if err != nil {
			t.Fatal(err)
		}
		pod := &mortal{addr: mustAddr(l.Addr().String())}
		m.pods = append(m.pods, pod)
		svc.Ports[0].Endpoints = append(svc.Ports[0].Endpoints, mesh.Endpoint{
			Addr: pod.addr, Ready: true, WorkloadUID: fmt.Sprint(i),
		})
		resources = append(resources, state.Resource{Name: state.WorkloadName(fmt.Sprint(i)), Version: "1", Workload: &mesh.Workload{
			UID: fmt.Sprint(i), Name: fmt.Sprint(i), Node: "node-2", Meshed: meshed, Addrs: []netip.Addr{pod.addr.Addr()},
		}})
		var both http.Protocols
		both.SetHTTP1(true)
		both.SetUnencryptedHTTP2(true)
		srv := &http.Server{Protocols: &both, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			if r.URL.Path == "/hold" {
				pod.asks.Add(1)
				if first.CompareAndSwap(false, true) {
					m.held <- pod
					<-r.Context().Done()
					return
				}
			}
			io.WriteString(w, pod.addr.String())
		})}
		go srv.Serve(l)
		t.Cleanup(func() { srv.Close() })
	}
	resources = append(resources, state.Resource{Name: state.ServiceName("default", "server"), Version: "1", Service: svc})
	if err := m.store.Apply(state.Delta{Version: 1, Synced: true, Resources: resources}); err != nil {
		t.Fatal(err)
	}
	return m
}

// end ends a pod.
func (m *mortals) end(pod *mortal) { m.network.End(pod.addr.Addr()) }

// warm makes idle connections to all pods.
func (m *mortals) warm(client *http.Client, url string) {
	m.t.Helper()
	seen := map[string]bool{}
	proxytest.Eventually(m.t, "each pod has answered", func() bool {
		got := ask(m.t, client, "GET", url)
		seen[got.body] = true
		return len(seen) == len(m.pods)
	})
}

// answered is a response of a pod or of the proxy.
type answered struct {
	status       int
	reason, body string
	grpc         string // grpc-status
}

var podGone = answered{http.StatusServiceUnavailable, "pod-gone", mesh.ReasonPodGone.Text() + "\n", ""}

func ask(t testing.TB, client *http.Client, method, url string) answered {
	var body io.Reader
	if method != "GET" {
		body = strings.NewReader("body")
	}
	req, err := http.NewRequest(strings.TrimPrefix(method, "gRPC "), url, body)
	if err != nil {
		t.Error(err)
		return answered{}
	}
	if strings.HasPrefix(method, "gRPC") {
		req.Header.Set("Content-Type", "application/grpc")
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Error(err)
		return answered{}
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	return answered{resp.StatusCode, resp.Header.Get("Underlane-Reason"), string(text), resp.Header.Get("Grpc-Status")}
}

var protocolsOfHTTP = map[string]bool{"HTTP/1": false, "HTTP/2": true}

// TestPodEndsUnderARequest: the connection of a request that is under way is cut because
// the pod has ended. A request that can be repeated is answered by another pod at once;
// where it cannot, or there is no other, the reason is pod-gone.
func TestPodEndsUnderARequest(t *testing.T) {
	for name, http2 := range protocolsOfHTTP {
		for _, reused := range []bool{false, true} {
			for _, c := range []struct {
				method string
				pods   int
				moves  bool
				want   answered
			}{
				{"GET", 1, false, podGone},
				{"GET", 2, true, answered{status: http.StatusOK}},
				{"PUT", 2, true, answered{status: http.StatusOK}},
				{"POST", 2, false, podGone},
				{"gRPC POST", 2, false, answered{http.StatusOK, "pod-gone", "", "14"}},
			} {
				t.Run(fmt.Sprintf("%s %s, %d pods, reused %v", name, c.method, c.pods, reused), func(t *testing.T) {
					m := newMortals(t, c.pods, false)
					client, url := clientOf(t, http2), "http://"+m.to(m.vip)
					if reused {
						m.warm(client, url)
					}
					got := make(chan answered, 1)
					go func() { got <- ask(t, client, c.method, url+"/hold") }()
					ended := <-m.held
					m.end(ended)
					answer, asked := <-got, int32(0)
					for _, pod := range m.pods {
						asked += pod.asks.Load()
						if c.moves && pod != ended {
							c.want.body = pod.addr.String()
						}
					}
					if answer != c.want {
						t.Errorf("got %+v, want %+v", answer, c.want)
					}
					if want := map[bool]int32{false: 1, true: 2}[c.moves]; asked != want {
						t.Errorf("the pods were asked %d times, want %d", asked, want)
					}
					// The end of one pod says nothing about the others of its node.
					for _, e := range m.proxy.Ejected() {
						if e.Endpoint != ended.addr || e.Cause != "unreachable" {
							t.Errorf("%s is ejected as %s, want %s alone, as unreachable", e.Endpoint, e.Cause, ended.addr)
						}
					}
				})
			}
		}
	}
}

// TestPodHasEnded: a request that finds a pod ended, whose connections were idle or that
// had none, goes to another pod, whatever its method; without one the reason is pod-gone.
func TestPodHasEnded(t *testing.T) {
	for name, http2 := range protocolsOfHTTP {
		for _, idle := range []bool{false, true} {
			for _, pods := range []int{1, 3} {
				t.Run(fmt.Sprintf("%s, %d pods, idle connections %v", name, pods, idle), func(t *testing.T) {
					m := newMortals(t, pods, false)
					client, url := clientOf(t, http2), "http://"+m.to(m.vip)
					if idle {
						m.warm(client, url)
					}
					m.end(m.pods[0])
					proxytest.Eventually(t, "the connections have ended", func() bool {
						return m.proxy.upstream.Stats().HTTP2 < pods
					})
					for i := range 20 {
						method := []string{"GET", "POST"}[i%2]
						got := ask(t, client, method, url)
						switch {
						case pods == 1 && got != podGone:
							t.Errorf("%s: got %+v, want %+v", method, got, podGone)
						case pods > 1 && (got.status != http.StatusOK || got.body == m.pods[0].addr.String()):
							t.Errorf("%s: got %+v, want an answer of another pod", method, got)
						}
					}
					for _, e := range m.proxy.Ejected() {
						if e.Endpoint != m.pods[0].addr {
							t.Errorf("%s is ejected, want %s alone", e.Endpoint, m.pods[0].addr)
						}
					}
				})
			}
		}
	}
}

// TestInboundOfAPodThatHasEnded: the agent of the pod's node tells its clients.
func TestInboundOfAPodThatHasEnded(t *testing.T) {
	for name, http2 := range protocolsOfHTTP {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			l := proxytest.Listen(t)
			addr := l.Addr()
			e.network.End(addr.Addr())
			pod := &mesh.Workload{UID: "pod", Name: "pod", Node: "node-1", Meshed: true, Addrs: []netip.Addr{addr.Addr()}}
			e.group.ServeInTurn(l, listener.Manner{}, func(c *rawio.Conn) listener.Rest { return e.proxy.ServeInbound(c, pod) })
			want := podGone
			want.reason = "pod-gone; unsent"
			for _, method := range []string{"GET", "POST"} {
				if got := ask(t, clientOf(t, http2), method, "http://"+addr.String()); got != want {
					t.Errorf("%s: got %+v, want %+v", method, got, want)
				}
			}
		})
	}
}

// TestPodEndsUnderAnOpaqueConnection: the client sees a reset, tap the reason.
func TestPodEndsUnderAnOpaqueConnection(t *testing.T) {
	for name, c := range map[string]struct{ client, server string }{
		"the client speaks":   {"\x00hello", "\x00answer"},
		"the server speaks":   {"", "220 hello\r\n"},
		"nobody has spoken":   {"", ""},
		"the pod is flooded":  {strings.Repeat("\x00", 8<<20), ""},
		"the client is asked": {"", strings.Repeat("?", 100)},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			l, err := net.Listen("tcp", "127.0.0.2:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			client := e.dial(l.Addr().String())
			written := make(chan struct{})
			var writing error
			go func() {
				defer close(written)
				_, writing = io.Copy(client.TCPConn, strings.NewReader(c.client))
			}()
			nc, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			pod := newClient(t, nc)
			if c.client != "" {
				if _, err := io.ReadFull(pod.r, make([]byte, 6)); err != nil {
					t.Fatal(err)
				}
			}
			pod.send(c.server)
			client.expect(c.server)
			e.network.End(netip.MustParseAddr("127.0.0.2"))
			<-written
			// The kernel tells of a reset once: a write that waits, else the read.
			if !errors.Is(writing, unix.ECONNRESET) {
				client.expectEnd(unix.ECONNRESET)
			}
			if got := e.tap.Wait(t, tap.ConnClose, 0); got.Reason != mesh.ReasonPodGone || !got.Reset {
				t.Errorf("tap shows reason %q, reset %v; want %q and a reset", got.Reason, got.Reset, mesh.ReasonPodGone)
			}
		})
	}
}

// TestAgentTellsThatAPodHasEnded: the agent of the server's node answers with pod-gone.
// What can be repeated goes to another pod, and so does any request of which the agent
// says that no application has seen it.
func TestAgentTellsThatAPodHasEnded(t *testing.T) {
	for name, http2 := range protocolsOfHTTP {
		for _, c := range []struct {
			method string
			pods   int
			said   string
			want   answered
		}{
			{"GET", 1, "pod-gone", answered{status: http.StatusServiceUnavailable, reason: "pod-gone", body: "gone"}},
			{"GET", 2, "pod-gone", answered{status: http.StatusOK, body: "ok"}},
			{"POST", 1, "pod-gone; unsent", answered{status: http.StatusServiceUnavailable, reason: "pod-gone; unsent", body: "gone"}},
			{"POST", 2, "pod-gone; unsent", answered{status: http.StatusOK, body: "ok"}},
			{"POST", 2, "pod-gone", answered{status: http.StatusServiceUnavailable, reason: "pod-gone", body: "gone"}},
		} {
			t.Run(fmt.Sprintf("%s %s, %d pods, %s", name, c.method, c.pods, c.said), func(t *testing.T) {
				m := newMortals(t, c.pods, true)
				var told atomic.Int32
				alive, _ := counted(t, func(w http.ResponseWriter, r *http.Request) {
					_, _ = io.Copy(io.Discard, r.Body)
					io.WriteString(w, "ok")
				})
				gone, _ := counted(t, func(w http.ResponseWriter, r *http.Request) {
					told.Add(1)
					_, _ = io.Copy(io.Discard, r.Body)
					w.Header().Set("Underlane-Reason", c.said)
					w.WriteHeader(http.StatusServiceUnavailable)
					io.WriteString(w, "gone")
				})
				m.proxy.upstream.Connect = func(ctx context.Context, ep *upstream.Endpoint, _ netip.AddrPort, _ string) (conn.Conn, upstream.Result, error) {
					to := alive
					if ep.Peer.Addr == m.pods[0].addr {
						to = gone
					}
					c, err := m.network.Dial(ctx, "", mustAddr(to))
					return conn.Plain{Conn: c}, ep.Expected(), err
				}
				client, url := clientOf(t, http2), "http://"+m.to(m.vip)
				for told.Load() == 0 { // until the pod that is gone is the first choice
					got := ask(t, client, c.method, url)
					if want := c.want; told.Load() > 0 && got != want {
						t.Fatalf("got %+v, want %+v", got, want)
					} else if told.Load() == 0 && got.status != http.StatusOK {
						t.Fatalf("the other pod: got %+v, want %d", got, http.StatusOK)
					}
				}
				if c.pods > 1 {
					proxytest.Eventually(t, "the pod is ejected", func() bool { return len(m.proxy.Ejected()) > 0 })
					if got := m.proxy.Ejected(); len(got) != 1 || got[0].Endpoint != m.pods[0].addr || got[0].Cause != "unreachable" {
						t.Errorf("ejected: %+v, want %s as unreachable", got, m.pods[0].addr)
					}
				}
			})
		}
	}
}

// cutConn is a connection whose writes fail, once it is cut, because the pod has ended.
type cutConn struct {
	conn.Plain
	cut *atomic.Bool
}

func (c cutConn) Write(p []byte) (int, error) {
	if c.cut.Load() {
		return 0, mesh.Fail(mesh.ReasonPodGone, unix.EPIPE)
	}
	return c.Plain.Write(p)
}

// TestPodEndsUnderAWrite: the request of a pooled HTTP/1 connection meets its cut.
func TestPodEndsUnderAWrite(t *testing.T) {
	m := newMortals(t, 1, false)
	var cut atomic.Bool
	m.proxy.upstream.Connect = func(ctx context.Context, ep *upstream.Endpoint, _ netip.AddrPort, _ string) (conn.Conn, upstream.Result, error) {
		c, err := m.network.Dial(ctx, "", ep.Peer.Addr)
		return cutConn{conn.Plain{Conn: c}, &cut}, ep.Expected(), err
	}
	client, url := clientOf(t, false), "http://"+m.to(m.vip)
	m.warm(client, url)
	cut.Store(true)
	if got := ask(t, client, "POST", url); got != podGone {
		t.Errorf("got %+v, want %+v", got, podGone)
	}
}
