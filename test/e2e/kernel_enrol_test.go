package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/underlane/underlane/test/lab"
	"github.com/underlane/underlane/test/lab/api"
)

// connections are programs that each keep a connection in use: one that must
// not be cut.
type connections map[string]*background

// openConnections opens a TCP and an HTTP connection in each direction
// between two pods that run every server.
func openConnections(t *testing.T, l *lab.Lab, a, b string) connections {
	t.Helper()
	c := connections{}
	for _, ends := range [][2]string{{a, b}, {b, a}} {
		to := l.Pod(ends[1])
		way := ends[0] + " to " + ends[1]
		c["tcp "+way] = inPod(t, l, ends[0], "labtest", "hold", "--rounds", "10", to.IP().String()+":7000")
		c["http "+way] = inPod(t, l, ends[0], "labtest", "session", "--rounds", "10", "http://"+to.IP().String()+":8080/")
		c["tcp over IPv6 "+way] = inPod(t, l, ends[0], "labtest", "hold", "--rounds", "10", "["+to.IP6().String()+"]:7000")
	}
	for _, b := range c {
		if got := b.line(); got != "holding" {
			t.Fatalf("%v printed %q", b.cmd.Args, got)
		}
	}
	return c
}

// end ends all; each has to have worked to its end.
func (c connections) end(t *testing.T) {
	t.Helper()
	for what, b := range c {
		lines := b.end()
		n := 0
		if len(lines) == 1 {
			n, _ = strconv.Atoi(strings.TrimPrefix(lines[0], "rounds "))
		}
		if n < 10 {
			t.Errorf("%s: printed %q, want ten rounds or more", what, lines)
		}
	}
}

func TestPodsJoinAndLeaveWhileTheyRun(t *testing.T) {
	t.Parallel()
	a, b := serverPod("a", node1), serverPod("b", node2)
	a.Labels, b.Labels = nil, nil
	l := lab.Up(t, lab.Options{}, manifests(a, b))
	began := [2]api.Pod{l.Pod("a"), l.Pod("b")}
	tap := startTap(t, l, node1)
	path := 0
	// request asks b from a, by a new connection, and gives the path.
	request := func() string {
		path++
		url := fmt.Sprintf("http://%s:8080/request-%d", began[1].IP(), path)
		l.Exec("a", "labtest", "get", url)
		return fmt.Sprintf("/request-%d", path)
	}
	captured := func() uint64 { return agentStatus(t, l, node1).KernelEvents["captured-outbound"] }

	before := openConnections(t, l, "a", "b")
	request()
	if n := captured(); n != 0 {
		t.Errorf("%d connections were captured before any pod was labelled", n)
	}

	l.Label("pod/a", "underlane.io/mesh=enabled")
	l.Label("pod/b", "underlane.io/mesh=enabled")
	waitEnrolled(t, l, "default/a", "default/b")
	for _, p := range agentStatus(t, l, node1).Pods {
		if p.PreMeshConnections != uint32(len(before)) {
			t.Errorf("the agent counts %d connections opened before the mesh, want %d", p.PreMeshConnections, len(before))
		}
	}
	want := request()
	e := tap.wait(want, func(e event) bool { return e.RequestInitEvent != nil && e.RequestInitEvent.Path == want })
	if e.TLS != "true" || e.ProxyDirection != "OUTBOUND" || e.Destination.Metadata["pod"] != "b" {
		t.Errorf("a's first request in the mesh: %s", e)
	}
	if n := captured(); n != 1 {
		t.Errorf("%d connections of a were captured, want only the one opened since", n)
	}
	during := openConnections(t, l, "a", "b")

	// One side leaves, then the other: what was opened in the mesh goes on.
	l.Label("pod/b", "underlane.io/mesh-")
	waitLeft(t, l, node2, "default/b")
	l.Eventually(patience, func() error { // a's agent may hear of it later than b's
		want = request()
		e = tap.wait(want, func(e event) bool { return e.RequestInitEvent != nil && e.RequestInitEvent.Path == want })
		if e.TLS != "no-identity" {
			return fmt.Errorf("a request to a pod that left the mesh: %s", e)
		}
		return nil
	})
	l.Label("pod/a", "underlane.io/mesh-")
	waitLeft(t, l, node1, "default/a")
	n := captured()
	want = request()
	if now := captured(); now != n {
		t.Errorf("%d connections were captured after the pod had left", now-n)
	}
	if got := tap.all(func(e event) bool { return e.RequestInitEvent != nil && e.RequestInitEvent.Path == want }); len(got) > 0 {
		t.Errorf("a request of a pod outside the mesh in tap: %s", got)
	}
	after := openConnections(t, l, "a", "b")
	time.Sleep(time.Second) // many rounds of every connection, all of them outlived

	for _, c := range []connections{after, during, before} {
		c.end(t)
	}
	l.Eventually(2*patience, func() error {
		// One may be idle in the pool of the other node's agent, of its pod's
		// HTTP session; and another, until it has aged, if that agent heard
		// before a's own that a left.
		if n := agentStatus(t, l, node1).OpenConnections; n > 1 {
			return fmt.Errorf("%d connections are still open at the agent", n)
		}
		return nil
	})
	for i, pod := range []string{"a", "b"} {
		if p := l.Pod(pod); p.Pid != began[i].Pid || p.Restarts != 0 || p.UID != began[i].UID {
			t.Errorf("pod %s was restarted: %+v", pod, p)
		}
	}
}

// A second, from the label to the first connection in the mesh: of some tries
// the best, since the machine may be busy with something else.
func TestLabelsWorkAtOnce(t *testing.T) {
	l := lab.Up(t, lab.Options{}, manifests(serverPod("web", node2), podSpec{Name: "a", Node: node1, Command: []string{"labtest", "wait"}}))
	web := l.Pod("web").IP().String() + ":7000"
	join, leave := time.Hour, time.Hour
	for try := 0; try < 3 || try < 10 && max(join, leave) > time.Second; try++ {
		knocks := inPod(t, l, "a", "labtest", "knock", web)
		knocks.line()
		began := time.Now()
		l.Label("pod/a", "underlane.io/mesh=enabled")
		join = min(join, timeUntil(t, l, began, true))
		began = time.Now()
		l.Label("pod/a", "underlane.io/mesh-")
		leave = min(leave, timeUntil(t, l, began, false))
		for _, k := range readKnocks(t, knocks) {
			if k.Stage != "done" {
				t.Errorf("a connection failed while the pod joined and left: %+v", k)
			}
		}
	}
	t.Logf("in the mesh after %s, out of it after %s", join, leave)
	if join > time.Second || leave > time.Second {
		t.Errorf("in the mesh after %s, out of it after %s, want a second or less", join, leave)
	}
}

// timeUntil is the time from began until new connections are captured, or are
// not, while something knocks all the time.
func timeUntil(t *testing.T, l *lab.Lab, began time.Time, want bool) time.Duration {
	t.Helper()
	before := agentStatus(t, l, node1).KernelEvents["captured-outbound"]
	for deadline := began.Add(patience); time.Now().Before(deadline); {
		asked := time.Now()
		time.Sleep(50 * time.Millisecond) // several knocks
		now := agentStatus(t, l, node1).KernelEvents["captured-outbound"]
		if (now > before) == want {
			return asked.Sub(began)
		}
		before = now
	}
	t.Fatalf("new connections are captured: still %v after %s", !want, patience)
	return 0
}
