package e2e

import (
	"context"
	"fmt"
	"io"
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

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/test/lab"
	"github.com/underlane/underlane/test/lab/host"
)

// A call must not wait for a pod that is gone: not for the time that it takes to
// find out that an agent hangs (2 s at least), nor for a connect time-out.
const goneLimit = 1900 * time.Millisecond

// goneReasons are true of a pod that is gone, whatever noticed it first. That the
// agent of its node is away is not.
var goneReasons = []mesh.Reason{
	mesh.ReasonUpstreamReset, mesh.ReasonConnectRefused, mesh.ReasonConnectFailed, mesh.ReasonNoEndpoints,
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

func call(client *http.Client, url string) goneCall { return callTelling(client, url, func() {}) }

// callTelling is call that says when the request is written.
func callTelling(client *http.Client, url string, wrote func()) (c goneCall) {
	c.began = time.Now()
	defer func() { c.ended = time.Now() }()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) { wrote() }})
	req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
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
	go func() { ended <- callTelling(client, url, func() { once.Do(func() { close(wrote) }) }) }()
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
