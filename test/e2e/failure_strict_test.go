package e2e

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/underlane/underlane/test/lab"
)

// servers of strictAway: the first fails open by its fail-mode, which is the
// default, and by its namespace so does the second.
var strictServers = []string{"default/server", "vault/vault"}

// TestStrictWithoutItsAgent: nobody but the node's own processes comes into a
// strict pod while its agent is hung, killed, stopping, or back without having
// taken its pods in. What the pod itself opens follows its fail-mode.
func TestStrictWithoutItsAgent(t *testing.T) {
	t.Parallel()
	outsider, near := clientPod("outsider", node1), clientPod("near-outsider", node2)
	outsider.Labels, near.Labels = nil, nil
	server := serverPod("server", node2)
	server.Annotations = map[string]string{"underlane.io/policy": "strict"}
	vault := serverPod("vault", node2)
	vault.Namespace = "vault"
	namespace := "---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: vault\n  annotations: {underlane.io/policy: strict}\n"
	l := lab.Up(t, lab.Options{AgentArgs: []string{"--heartbeat-timeout=" + heartbeat.String(), "--drain-timeout=2m"}}, namespace+manifests(
		outsider, near, clientPod("client", node1), clientPod("neighbour", node2), server, vault, serverPod("open", node2)))
	all := append([]string{"default/client", "default/neighbour", "default/open"}, strictServers...)
	waitEnrolled(t, l, all...)
	strictServes(t, l)

	t.Run("hung", func(t *testing.T) {
		before := agentStatus(t, l, node2).KernelEvents["refused-stale-agent"]
		l.SignalAgent(node2, "STOP")
		t.Cleanup(func() { _ = lab.Run(l.Command("kill-agent", node2, "--signal", "CONT")) })
		time.Sleep(heartbeat + time.Second)
		strictIsClosed(t, l, false)
		l.SignalAgent(node2, "CONT")
		strictServes(t, l)
		if after := agentStatus(t, l, node2).KernelEvents["refused-stale-agent"]; after < before+4 {
			t.Errorf("refused-stale-agent went from %d to %d", before, after)
		}
	})
	t.Run("stopping", func(t *testing.T) {
		held := inPod(t, l, "client", "labtest", "hold", "--interval", "100ms", addrPort(l.Pod("server").IP(), 7000))
		held.line()
		// And it drains, for there is a connection.
		if err := syscall.Kill(nodeOf(t, l, node2).Agent.Pid, syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		l.Eventually(patience, func() error {
			return strictRefuses(t, l, "outsider", addrPort(l.Pod("server").IP(), 8080))
		})
		strictIsClosed(t, l, true)
		held.end()
	})
	l.Eventually(patience, func() error {
		if nodeOf(t, l, node2).Agent.Pid != 0 {
			return errors.New("the agent has not ended")
		}
		return nil
	})
	t.Run("gone", func(t *testing.T) { strictIsClosed(t, l, false) })
	l.StartAgent(node2)
	waitEnrolled(t, l, all...)
	strictServes(t, l)
	t.Run("killed", func(t *testing.T) {
		l.KillAgent(node2)
		strictIsClosed(t, l, false)
		// What the annotation said last stands.
		l.Annotate("default/pod/server", strictOff)
		time.Sleep(time.Second)
		if err := strictRefuses(t, l, "outsider", addrPort(l.Pod("server").IP(), 8080)); err != nil {
			t.Error(err)
		}
		l.Annotate("default/pod/server", strictOn)
		l.Eventually(patience, func() error { // that the client's agent knows
			out := l.Exec("client", "labtest", "get", "-i", "http://"+addrPort(l.Pod("server").IP(), 8080)+"/")
			if !strings.Contains(out, "agent-down") {
				return errors.New(out)
			}
			return nil
		})
	})
	t.Run("back without a controller", func(t *testing.T) {
		l.KillController()
		started := make(chan lab.Result, 1)
		go func() { started <- lab.Run(l.Command("start-agent", node2)) }() // which waits until it is ready
		l.Eventually(patience, func() error { _, err := tryStatus(l, node2); return err })
		strictIsClosed(t, l, false)
		l.StartController()
		if r := <-started; r.Code != 0 {
			t.Fatal(r)
		}
		waitEnrolled(t, l, all...)
		strictServes(t, l)
	})
}

// strictServes waits until strict pods serve the mesh, and refuse others by
// policy.
func strictServes(t *testing.T, l *lab.Lab) {
	t.Helper()
	for _, ref := range strictServers {
		for _, ip := range l.Pod(ref).IPs {
			url := "http://" + addrPort(ip, 8080) + "/"
			for client, want := range map[string]int{"client": 200, "neighbour": 200, "outsider": 403} {
				l.Eventually(patience, func() error {
					if got := statusFrom(l, client, url); got != want {
						return fmt.Errorf("%s to %s: status %d, want %d", client, ref, got, want)
					}
					return nil
				})
			}
		}
	}
}

// strictRefuses reports whether a connection from a pod is refused. It is the
// test's own, which no hook of the client's node sees.
func strictRefuses(t *testing.T, l *lab.Lab, from, address string) error {
	t.Helper()
	c, err := inNetns(t, l.Pod(from).Netns, func() (net.Conn, error) { return net.DialTimeout("tcp", address, patience) })
	if err == nil {
		c.Close()
		return fmt.Errorf("a connection from %s to %s passed", from, address)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("a connection from %s to %s: %w, want it refused", from, address, err)
	}
	return nil
}

// strictIsClosed: draining says that the agent still serves connections that it
// has, of which the client's agent keeps some.
func strictIsClosed(t *testing.T, l *lab.Lab, draining bool) {
	t.Helper()
	for _, ref := range strictServers {
		for _, ip := range l.Pod(ref).IPs {
			// An outsider's, and plaintext with the address of a pod of the mesh.
			for _, from := range []string{"outsider", "near-outsider", "client", "neighbour"} {
				for _, port := range []int{8080, 7000, 7002} {
					if err := strictRefuses(t, l, from, addrPort(ip, port)); err != nil {
						t.Error(err)
					}
				}
			}
			url := "http://" + addrPort(ip, 8080) + "/"
			for _, version := range []string{"--http2=false", "--http2=true"} {
				// Its own agent tells a client of the mesh.
				out := l.Exec("client", "labtest", "get", "-i", version, url)
				served := draining && strings.Contains(out, " 200 OK\n")
				if !served && (!strings.Contains(out, " 502 ") || !strings.Contains(out, "Underlane-Reason: agent-down")) {
					t.Errorf("a client of the mesh, %s: %s", version, out)
				}
				if r := l.TryExec("neighbour", "labtest", "get", "-i", version, url); r.Code == 0 {
					t.Errorf("a neighbour, whose agent is away too, %s: %s", version, r)
				}
				if out := l.NodeExec(node2, "labtest", "get", "-i", version, url); !strings.Contains(out, " 200 OK\n") {
					t.Errorf("a probe of the pod's own node, %s: %s", version, out)
				}
			}
		}
		open := "http://" + addrPort(l.Pod("open").IP(), 8080) + "/"
		for _, from := range []string{"outsider", ref} {
			if code := statusFrom(l, from, open); code != 200 {
				t.Errorf("%s to a pod that fails open: status %d", from, code)
			}
		}
	}
}
