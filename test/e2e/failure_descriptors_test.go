package e2e

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/test/lab"
)

// starve lets a process open a few more files than it has, until the returned
// function.
func starve(t *testing.T, pid int) (feed func()) {
	t.Helper()
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	open := map[string]bool{}
	for _, fd := range fds {
		open[fd.Name()] = true
	}
	limit := uint64(0) // descriptors are below it
	for free := 0; free < 8; limit++ {
		if !open[strconv.FormatUint(limit, 10)] {
			free++
		}
	}
	var before unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &before); err != nil {
		t.Fatal(err)
	}
	low := unix.Rlimit{Cur: limit, Max: before.Max}
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &low, nil); err != nil {
		t.Fatal(err)
	}
	feed = func() { _ = unix.Prlimit(pid, unix.RLIMIT_NOFILE, &before, nil) }
	t.Cleanup(feed)
	return feed
}

// flood opens connections, in the node's namespace, and holds them until the
// returned function.
func flood(t *testing.T, l *lab.Lab, network, address string) (end func()) {
	t.Helper()
	conns, err := inNetns(t, nodeNetns(t, l, node1), func() (out []net.Conn, err error) {
		for range 100 {
			conn, err := net.DialTimeout(network, address, time.Second)
			if err != nil {
				break // a full backlog of a unix socket
			}
			out = append(out, conn)
		}
		return out, nil
	})
	if err != nil || len(conns) < 20 {
		t.Fatalf("%d connections to %s: %v", len(conns), address, err)
	}
	return func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}
}

// untilExhausted waits until a process has all descriptors that it may have, and
// some rounds of the accept loops longer.
func untilExhausted(t *testing.T, pid int) {
	t.Helper()
	var limit unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &limit); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		if err != nil {
			t.Fatal(err)
		}
		if len(fds) >= int(limit.Cur) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d descriptors of %d", len(fds), limit.Cur)
		}
	}
	time.Sleep(500 * time.Millisecond)
}

// TestAgentOutOfDescriptors: what takes the agent's descriptors, at any of its
// own ports and sockets, ends neither the agent nor its traffic.
func TestAgentOutOfDescriptors(t *testing.T) {
	t.Parallel()
	l := upL7(t)
	node := nodeOf(t, l.Lab, node1)
	h1, h2 := l.client(t, false), l.client(t, true)
	get := func(t *testing.T, client *http.Client, w way) {
		t.Helper()
		req, err := http.NewRequest("GET", "http://"+w.addr(8080)+"/x", nil)
		if err != nil {
			t.Fatal(err)
		}
		do(t, client, req)
	}
	traffic := func(t *testing.T) {
		t.Helper()
		for _, w := range l.ways {
			get(t, h1, w)
			get(t, h2, w)
		}
	}
	traffic(t)
	door, err := filepath.Glob(strings.TrimSuffix(node.Socket, ".sock") + "-handover.sock")
	if err != nil || len(door) != 1 {
		t.Fatalf("%v, %v", door, err)
	}
	for _, tc := range []struct{ name, network, address string }{
		{"metrics", "tcp", "127.0.0.1:4191"},
		{"node API for the controller", "tcp", "127.0.0.1:4193"},
		{"node API", "unix", node.Socket},
		{"successors", "unix", door[0]},
	} {
		t.Run(tc.name, func(t *testing.T) {
			feed := starve(t, node.Agent.Pid)
			end := flood(t, l.Lab, tc.network, tc.address)
			defer end()
			untilExhausted(t, node.Agent.Pid)
			traffic(t) // on connections that are there
			end()
			feed()
			if now := nodeOf(t, l.Lab, node1).Agent; now.Pid != node.Agent.Pid {
				t.Fatalf("the agent was %+v and is %+v", node.Agent, now)
			}
			h1.CloseIdleConnections()
			h2.CloseIdleConnections()
			traffic(t)
			l.Eventually(patience, func() error {
				_, err := tryStatus(l.Lab, node1)
				return err
			})
			if n := metric(metrics(t, l.Lab, node1), "underlane_accept_exhausted_total"); n == 0 {
				t.Error("not counted")
			}
		})
	}
	if !strings.Contains(l.Logs(node1), "accept: out of descriptors or memory") {
		t.Error("the agent does not say what was the matter")
	}
}

// TestControllerOutOfDescriptors: likewise for the controller's ports.
func TestControllerOutOfDescriptors(t *testing.T) {
	t.Parallel()
	l := lab.Up(t, lab.Options{}, manifests(clientPod("client", node1), serverPod("web", node2)))
	waitEnrolled(t, l, "default/client", "default/web")
	before := l.State().Controller
	for _, tc := range []struct{ name, address string }{
		{"agents", "192.168.77.254:8443"}, {"metrics", "192.168.77.254:4192"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			feed := starve(t, before.Pid)
			end := flood(t, l, "tcp", tc.address)
			defer end()
			untilExhausted(t, before.Pid)
			end()
			feed()
			if now := l.State().Controller; now.Pid != before.Pid {
				t.Fatalf("the controller was %+v and is %+v", before, now)
			}
			if n := metric(scrape(t, l, "controller", "http://127.0.0.1:4192/metrics"), "underlane_controller_accept_exhausted_total"); n == 0 {
				t.Error("not counted")
			}
			l.Eventually(patience, func() error {
				for _, node := range []string{node1, node2} {
					if s, err := tryStatus(l, node); err != nil || !s.Controller.Connected {
						return fmt.Errorf("%s is not connected: %v", node, err)
					}
				}
				return nil
			})
		})
	}
	l.Apply(manifests(clientPod("late", node1)))
	waitEnrolled(t, l, "default/late", "default/client", "default/web")
}
