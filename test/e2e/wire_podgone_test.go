package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"google.golang.org/grpc"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/test/lab"
	"github.com/underlane/underlane/test/lab/host"
)

// A call must not wait for a pod that is gone: not for the time that it takes to
// find out that an agent hangs (2 s at least), nor for a connect time-out.
const goneLimit = 1900 * time.Millisecond

// goneReasons are true of a pod that is going, whatever was noticed first: its program
// ends before the mesh hears of it. That the agent of its node is away is not true.
var goneReasons = []mesh.Reason{
	mesh.ReasonPodGone, mesh.ReasonUpstreamReset, mesh.ReasonConnectRefused, mesh.ReasonConnectFailed, mesh.ReasonNoEndpoints,
}

// goneCall is a call and how it ended.
type goneCall struct {
	began, ended time.Time
	code         int
	text         string
	err          error
}

func (c goneCall) String() string {
	return fmt.Sprintf("after %s: %d %q %v", c.ended.Sub(c.began).Round(time.Millisecond), c.code, strings.TrimSpace(c.text), c.err)
}

func call(client *http.Client, url string) goneCall { return callMethod(client, "GET", url) }

// callMethod is call with another method than GET.
func callMethod(client *http.Client, method, url string) goneCall {
	return callTelling(client, method, url, func() {})
}

// callTelling is callMethod that says when the request is written.
func callTelling(client *http.Client, method, url string, wrote func()) (c goneCall) {
	c.began = time.Now()
	defer func() { c.ended = time.Now() }()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) { wrote() }})
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return goneCall{err: err}
	}
	resp, err := client.Do(req)
	if err != nil {
		c.err = err
		return c
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	c.code, c.text, c.err = resp.StatusCode, string(body), err
	return c
}

// underWay makes a call, and returns when the request is written.
func underWay(client *http.Client, url string) (ended chan goneCall) {
	ended = make(chan goneCall, 1)
	wrote := make(chan struct{})
	var once sync.Once
	go func() { ended <- callTelling(client, "GET", url, func() { once.Do(func() { close(wrote) }) }) }()
	<-wrote
	return ended
}

// unplug removes a pod's link: nothing that its sockets send reaches anybody.
func unplug(t *testing.T, l *lab.Lab, pod string) {
	t.Helper()
	p := l.Pod(pod)
	err := host.InNetns(nodeNetns(t, l, p.Node), func() error {
		link, err := netlink.LinkByName(p.HostVeth)
		if err != nil {
			return err
		}
		return netlink.LinkDel(link)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// kill kills every process of a pod.
func kill(t *testing.T, l *lab.Lab, pod string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(l.Pod(pod).Cgroup, "cgroup.kill"), []byte("1"), 0o644); err != nil {
		t.Fatal(err)
	}
}

// ways that a pod goes. The network is last in the ordinary case, so that others
// hear from the kernel that its programs have ended; where it is first, they hear
// nothing.
var departures = []struct {
	name string
	gone func(t *testing.T, l *lab.Lab, p podSpec)
}{
	{"deleted", func(_ *testing.T, l *lab.Lab, p podSpec) { l.Delete(p.manifest()) }},
	{"unplugged, killed and deleted", func(t *testing.T, l *lab.Lab, p podSpec) {
		unplug(t, l, p.Name)
		kill(t, l, p.Name)
		l.Delete(p.manifest())
	}},
}

// TestPodGone: a call to a pod that goes, under way or made when it has gone, ends at
// once and says why. Once the mesh knows, this is so whatever becomes of the packets.
func TestPodGone(t *testing.T) {
	type victim struct {
		podSpec
		http2, busy bool
		departure   int
	}
	var victims []victim
	var pods []podSpec
	var names []string
	for d := range departures {
		for _, node := range []string{node1, node2} {
			for _, http2 := range []bool{false, true} {
				for _, busy := range []bool{false, true} {
					v := victim{serverPod(fmt.Sprintf("v%d", len(victims)), node), http2, busy, d}
					victims, pods, names = append(victims, v), append(pods, v.podSpec), append(names, "default/"+v.Name)
				}
			}
		}
	}
	l := upL7(t, pods...)
	waitEnrolled(t, l.Lab, names...)
	tap := startTap(t, l.Lab, node1)
	for _, v := range victims {
		title := departures[v.departure].name + " " + map[bool]string{true: "cross-node", false: "same-node"}[v.Node == node2] +
			map[bool]string{true: " HTTP/2", false: " HTTP/1"}[v.http2] + map[bool]string{true: " busy", false: " idle"}[v.busy]
		t.Run(title, func(t *testing.T) {
			client := l.client(t, v.http2)
			base := "http://" + addrPort(l.Pod(v.Name).IP(), 8080) + "/" + v.Name
			if c := call(client, base); c.code != http.StatusOK {
				t.Fatal(c)
			}
			running := make(chan goneCall, 1)
			if v.busy {
				running = underWay(client, "http://"+addrPort(l.Pod(v.Name).IP(), 8080)+"/delay/50s")
			}
			departures[v.departure].gone(t, l.Lab, v.podSpec)
			gone := time.Now()
			var calls []goneCall
			if v.busy {
				calls = append(calls, <-running)
			}
			for range 2 {
				calls = append(calls, call(client, base+"/after"))
			}
			for i, c := range calls {
				since := c.began
				if since.Before(gone) {
					since = gone
				}
				took := c.ended.Sub(since)
				t.Logf("call %d, %s, %s after the pod had gone", i, c, took.Round(time.Millisecond))
				if took > goneLimit {
					t.Errorf("call %d took %s, want %s at most", i, took, goneLimit)
				}
				if !slices.ContainsFunc(goneReasons, func(r mesh.Reason) bool { return strings.TrimSpace(c.text) == r.Text() }) {
					t.Errorf("call %d: %s, want a reason of %v", i, c, goneReasons)
				}
			}
			// When the mesh has heard of it, that is the reason.
			l.Eventually(patience, func() error {
				c := call(client, base+"/after")
				if strings.TrimSpace(c.text) != mesh.ReasonPodGone.Text() {
					return fmt.Errorf("%s, want %s", c, mesh.ReasonPodGone)
				}
				return nil
			})
			for _, e := range tap.all(func(e event) bool {
				return e.ResponseEndEvent != nil && e.ProxyDirection == "OUTBOUND" && e.ResponseEndEvent.HTTPStatus != http.StatusOK
			}) {
				if !slices.Contains(goneReasons, mesh.ParseReason(e.Reason)) {
					t.Errorf("tap shows reason %q, want one of %v: %s", e.Reason, goneReasons, e)
				}
			}
		})
	}
}

// stage serves requests and connections in a pod's network, in this process: the end of
// the pod's own programs ends none of them. Only the mesh can.
type stage struct {
	http, grpc, raw string
	waits           chan struct{} // an exchange is under way
}

func newStage(t *testing.T, l *l7Lab, pod string) *stage {
	t.Helper()
	s := &stage{waits: make(chan struct{}, 64)}
	over := make(chan struct{})
	t.Cleanup(func() { close(over) })
	listen := func(port int) (net.Listener, string) {
		t.Helper()
		var ln net.Listener
		err := host.InNetns(l.Pod(pod).Netns, func() (err error) {
			ln, err = net.Listen("tcp", fmt.Sprintf(":%d", port))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ln.Close() })
		return ln, addrPort(l.Pod(pod).IP(), port)
	}
	ln, addr := listen(9100)
	s.http = "http://" + addr
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	web := &http.Server{Protocols: protocols, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.URL.Path == "/hold" {
			s.waits <- struct{}{}
			<-over
		}
		_, _ = io.WriteString(w, pod)
	})}
	go func() { _ = web.Serve(ln) }()
	t.Cleanup(func() { _ = web.Close() })

	ln, s.grpc = listen(9101)
	calls := grpc.NewServer()
	grpc_testing.RegisterTestServiceServer(calls, &grpcServer{name: pod})
	go func() { _ = calls.Serve(ln) }()
	t.Cleanup(calls.Stop)

	ln, s.raw = listen(9102)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { c.Close() })
			go func() { _, _ = io.Copy(c, c) }()
		}
	}()
	return s
}

// TestPodGoneIsTheReason: whatever a pod that goes was doing, the mesh ends it at once and
// says that the pod has ended: HTTP/1, on connections of its own and shared ones, HTTP/2,
// gRPC and opaque, under way, on idle connections and on new ones.
func TestPodGoneIsTheReason(t *testing.T) {
	const together = 12 // HTTP/1 connections: across nodes most of them share one
	l := upL7(t, serverPod("near-gone", node1), serverPod("far-gone", node2))
	waitEnrolled(t, l.Lab, "default/near-gone", "default/far-gone")
	for _, v := range []podSpec{serverPod("near-gone", node1), serverPod("far-gone", node2)} {
		t.Run(v.Name, func(t *testing.T) {
			s := newStage(t, l, v.Name)
			tap := startTap(t, l.Lab, node1)
			http1, http2, calls := l.client(t, false), l.client(t, true), dialGRPC(t, l, s.grpc)
			http1.Transport.(*http.Transport).MaxIdleConnsPerHost = together

			idle1, idle2 := l.client(t, false), l.client(t, true) // after their first call
			for _, c := range []*http.Client{idle1, idle2} {
				if got := call(c, s.http); got.code != http.StatusOK {
					t.Fatal(got)
				}
			}
			var running []chan goneCall
			for range together {
				running = append(running, underWay(http1, s.http+"/hold"))
			}
			running = append(running, underWay(http2, s.http+"/hold"))
			for range running {
				<-s.waits
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			stream, err := calls.FullDuplexCall(ctx)
			if err != nil {
				t.Fatal(err)
			}
			exchange(t, stream, 10)
			opaque, err := l.from.DialContext(ctx, "tcp", s.raw)
			if err != nil {
				t.Fatal(err)
			}
			defer opaque.Close()
			_ = opaque.SetDeadline(time.Now().Add(patience))
			echo := []byte("\x00\x01opaque")
			if _, err := opaque.Write(echo); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(opaque, make([]byte, len(echo))); err != nil {
				t.Fatal(err)
			}

			l.Delete(v.manifest())
			gone := time.Now()
			soon := func(what string) {
				t.Helper()
				if took := time.Since(gone); took > goneLimit {
					t.Errorf("%s ended %s after the pod had gone, want %s at most", what, took.Round(time.Millisecond), goneLimit)
				}
			}
			isGone := func(what string, c goneCall) {
				t.Helper()
				if c.code != mesh.ReasonPodGone.HTTPStatus() || strings.TrimSpace(c.text) != mesh.ReasonPodGone.Text() {
					t.Errorf("%s: %s, want %d %q", what, c, mesh.ReasonPodGone.HTTPStatus(), mesh.ReasonPodGone.Text())
				}
			}
			grpcGone := func(what string, err error) {
				t.Helper()
				if st := status.Convert(err); int(st.Code()) != mesh.ReasonPodGone.GRPCCode() || st.Message() != mesh.ReasonPodGone.Text() {
					t.Errorf("%s: %v, want code %d and %q", what, err, mesh.ReasonPodGone.GRPCCode(), mesh.ReasonPodGone.Text())
				}
			}
			for i, ended := range running {
				isGone(fmt.Sprintf("call %d that was under way", i), <-ended)
			}
			_, err = stream.Recv()
			grpcGone("a gRPC call that was under way", err)
			if n, err := opaque.Read(echo); err == nil {
				t.Errorf("an opaque connection reads %q, want its end", echo[:n])
			}
			soon("what was under way")
			gone = time.Now()
			isGone("HTTP/1 on an idle connection", call(idle1, s.http))
			isGone("HTTP/2 on an idle connection", call(idle2, s.http))
			isGone("HTTP/1 on a new connection", call(l.client(t, false), s.http))
			isGone("HTTP/2 on a new connection", call(l.client(t, true), s.http))
			_, err = dialGRPC(t, l, s.grpc).UnaryCall(ctx, &grpc_testing.SimpleRequest{})
			grpcGone("another gRPC call", err)
			if again, err := l.from.DialContext(ctx, "tcp", s.raw); err == nil {
				_ = again.SetDeadline(time.Now().Add(patience))
				_, _ = again.Write(echo)
				if n, err := again.Read(echo); err == nil {
					t.Errorf("another opaque connection reads %q, want its end", echo[:n])
				}
				again.Close()
			}
			soon("the next requests")
			tap.wait("the end of two opaque connections", func() func(event) bool {
				n := 0
				return func(e event) bool {
					if e.ConnCloseEvent != nil && e.ProxyDirection == "OUTBOUND" && e.Destination.Port == 9102 {
						n++
					}
					return n == 2
				}
			}())
			failed := tap.all(func(e event) bool {
				return e.ProxyDirection == "OUTBOUND" && (e.ConnCloseEvent != nil || e.ResponseEndEvent != nil && !e.ResponseEndEvent.Success)
			})
			if len(failed) < together+8 {
				t.Errorf("tap shows %d failures, want %d at least", len(failed), together+8)
			}
			for _, e := range failed {
				if e.Reason != mesh.ReasonPodGone.String() {
					t.Errorf("tap shows reason %q, want %q: %s", e.Reason, mesh.ReasonPodGone, e)
				}
			}
		})
	}
}

// TestRequestMovesOnFromAPodThatGoes: a request of a service that can be repeated is
// answered by another endpoint at once when the pod that has it goes. What cannot be is
// answered with the reason.
func TestRequestMovesOnFromAPodThatGoes(t *testing.T) {
	l := upL7(t)
	for _, node := range []string{node1, node2} {
		for _, http2 := range []bool{false, true} {
			t.Run(fmt.Sprintf("from %s, HTTP/2 %v", node, http2), func(t *testing.T) {
				going, stays := webPod("going", node), webPod("stays", node2)
				l.Apply(manifests(going, stays), strings.Replace(webService, "targetPort: 8080", "targetPort: 9100", 1))
				waitEnrolled(t, l.Lab, "default/going", "default/stays")
				defer l.Delete(stays.manifest())
				first, second := newStage(t, l, "going"), newStage(t, l, "stays")
				service := "http://" + addrPort(l.ServiceIPs("default/web")[0], 80)
				client := l.client(t, http2)
				held := func(method string) chan goneCall {
					t.Helper()
					for {
						ended := make(chan goneCall, 1)
						go func() { ended <- callMethod(client, method, service+"/hold") }()
						select {
						case <-first.waits:
							return ended
						case <-second.waits: // it stays there
						case <-time.After(patience):
							t.Fatal("no endpoint has the request")
						}
					}
				}
				get, post := held("GET"), held("POST")
				l.Delete(going.manifest())
				gone := time.Now()
				select {
				case <-second.waits: // the GET
				case c := <-get:
					t.Fatalf("GET: %s, want that it is at the other endpoint", c)
				case <-time.After(patience):
					t.Fatal("the GET does not move on")
				}
				if c := <-post; c.code != mesh.ReasonPodGone.HTTPStatus() || strings.TrimSpace(c.text) != mesh.ReasonPodGone.Text() {
					t.Errorf("POST: %s, want %d %q", c, mesh.ReasonPodGone.HTTPStatus(), mesh.ReasonPodGone.Text())
				}
				if took := time.Since(gone); took > goneLimit {
					t.Errorf("it took %s after the pod had gone, want %s at most", took.Round(time.Millisecond), goneLimit)
				}
			})
		}
	}
}

// TestServiceWithoutThePodThatWent: the next call of a service goes to another
// endpoint at once.
func TestServiceWithoutThePodThatWent(t *testing.T) {
	for _, node := range []string{node1, node2} {
		l := upL7(t, webPod("web-1", node), webPod("web-2", node2))
		l.Apply(webService)
		waitEnrolled(t, l.Lab, "default/web-1", "default/web-2")
		url := "http://" + addrPort(l.ServiceIPs("default/web")[0], 80) + "/who"
		clients := map[string]*http.Client{"HTTP/1": l.client(t, false), "HTTP/2": l.client(t, true)}
		for name, client := range clients { // connections to both
			l.Eventually(patience, func() error {
				seen := map[string]bool{}
				for range 20 {
					c := call(client, url)
					for _, pod := range []string{"web-1", "web-2"} {
						seen[pod] = seen[pod] || strings.Contains(c.text, `"`+pod+`"`)
					}
				}
				if !seen["web-1"] || !seen["web-2"] {
					return fmt.Errorf("%s: endpoints %v", name, seen)
				}
				return nil
			})
		}
		departures[1].gone(t, l.Lab, webPod("web-1", node))
		for name, client := range clients {
			for range 10 {
				c := call(client, url)
				if took := c.ended.Sub(c.began); took > goneLimit || c.code != http.StatusOK {
					t.Errorf("%s, web-1 on %s: %s, want an answer of web-2 within %s", name, node, c, goneLimit)
				}
			}
		}
	}
}

// TestTerminatingPodKeepsItsConnections: a pod that is being deleted and still runs
// answers on the connections that there are.
func TestTerminatingPodKeepsItsConnections(t *testing.T) {
	t.Parallel()
	l := upL7(t)
	for _, node := range []string{node1, node2} {
		for _, http2 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s HTTP/2 %v", node, http2), func(t *testing.T) {
				// The server does not hear of SIGTERM: it goes on for the grace period.
				p := serverPod("lasting", node)
				p.Command = []string{"sh", "-c", "trap '' TERM; setsid labtest all & wait; sleep 60"}
				l.Apply(p.manifest())
				waitEnrolled(t, l.Lab, "default/lasting")
				client := l.client(t, http2)
				base := "http://" + addrPort(l.Pod("lasting").IP(), 8080)
				if c := call(client, base+"/who"); c.code != http.StatusOK {
					t.Fatal(c)
				}
				running := underWay(client, base+"/delay/1s")
				deleted := make(chan struct{})
				go func() { defer close(deleted); lab.Run(l.Command("delete", "pod/lasting")) }()
				defer func() { <-deleted }()
				l.Eventually(patience, func() error {
					if s := l.Pod("lasting").Status; s != "Terminating" {
						return fmt.Errorf("the pod is %s", s)
					}
					return nil
				})
				if c := <-running; c.code != http.StatusOK {
					t.Errorf("the call that was under way: %s, want 200", c)
				}
				if c := call(client, base+"/who"); c.code != http.StatusOK {
					t.Errorf("the next call: %s, want 200", c)
				}
			})
		}
	}
}
