package e2e

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/underlane/underlane/test/lab"
)

// opaqueService is a Service of port 7000 of the pods with the label app.
func opaqueService(app string) string {
	return fmt.Sprintf(`---
apiVersion: v1
kind: Service
metadata: {name: %[1]s, namespace: default}
spec: {selector: {app: %[1]s}, ports: [{port: 7000}]}
`, app)
}

// opaqueServer is a strict server whose port 7000 is opaque.
func opaqueServer(name string) podSpec {
	p := serverPod(name, node1)
	p.Annotations = map[string]string{"underlane.io/opaque-ports": "7000", "underlane.io/policy": "strict"}
	return p
}

// kernelPathLab has a strict server whose port 7000 is opaque, a client beside it, one on
// the other node, and one outside the mesh.
func kernelPathLab(t *testing.T) (l *lab.Lab, pod, service string) {
	t.Helper()
	outsider := clientPod("outsider", node1)
	outsider.Labels = nil
	l = lab.Up(t, lab.Options{}, manifests(opaqueServer("server"), clientPod("near", node1), clientPod("far", node2), outsider), opaqueService("server"))
	waitEnrolled(t, l, "default/server", "default/near", "default/far")
	return l, addrPort(l.Pod("server").IP(), 7000), addrPort(l.ServiceIPs("default/server")[0], 7000)
}

// onKernelPath waits until connections of a pod to an address take the kernel path: an open
// event of the kernel says that they did not leave the node.
func onKernelPath(t *testing.T, l *lab.Lab, tap *tapReader, client, to string) event {
	t.Helper()
	opened := func() []event {
		return tap.all(func(e event) bool { return e.ConnOpenEvent != nil && e.Origin == "kernel" && e.TLS == "same-node" })
	}
	var found []event
	l.Eventually(patience, func() error {
		before := len(opened())
		if r := say(l, client, to, "hello"); r.Code != 0 || !strings.HasSuffix(r.Stdout, "hello") {
			return fmt.Errorf("%s to %s: %s", client, to, r)
		}
		for range 20 { // the agent reads the kernel's events each 25 ms
			if found = opened()[before:]; len(found) > 0 {
				return nil
			}
			time.Sleep(25 * time.Millisecond)
		}
		return fmt.Errorf("%s to %s: the proxy carries it", client, to)
	})
	return found[0]
}

// echoes checks that a connection is open and carries bytes both ways.
func echoes(t *testing.T, c net.Conn) error {
	t.Helper()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := c.Write([]byte("ping\n")); err != nil {
		return err
	}
	b := make([]byte, 5)
	for n := 0; n < len(b); {
		m, err := c.Read(b[n:])
		if err != nil {
			return err
		}
		n += m
	}
	if string(b) != "ping\n" {
		return fmt.Errorf("got %q, want what was sent", b)
	}
	return nil
}

// TestKernelPath: connections between pods of one node to an opaque port take the kernel
// path, by the pod's address and by a Service's, and are seen in tap and metrics as other
// connections in the mesh. Those from elsewhere do not.
func TestKernelPath(t *testing.T) {
	t.Parallel()
	l, pod, service := kernelPathLab(t)
	tap := startTap(t, l, node1)
	for name, to := range map[string]string{"pod": pod, "service": service} {
		e := onKernelPath(t, l, tap, "near", to)
		if net.JoinHostPort(e.Destination.IP, strconv.Itoa(int(e.Destination.Port))) != pod || e.Destination.Metadata["pod"] != "server" || e.Source.Metadata["pod"] != "near" {
			t.Errorf("%s: got the event %s, want one from near to server at %s", name, e, pod)
		}
	}
	closed := tap.wait("the end of a connection", func(e event) bool { return e.ConnCloseEvent != nil && e.Origin == "kernel" && e.TLS == "same-node" })
	if closed.Reason != "" || closed.ConnCloseEvent.SentBytes+closed.ConnCloseEvent.ReceivedBytes == 0 {
		t.Errorf("got the end %s, want one without a reason, with bytes", closed)
	}
	for client, allowed := range map[string]bool{"far": true, "outsider": false} {
		if r := say(l, client, pod, "hello"); strings.HasSuffix(r.Stdout, "hello") != allowed {
			t.Errorf("%s: got %s, want it let in: %v", client, r, allowed)
		}
	}
}

// TestKernelPathOutlivesTheAgent: connections on the kernel path go on while their agent is
// killed and another one starts, and new ones take the path again.
func TestKernelPathOutlivesTheAgent(t *testing.T) {
	t.Parallel()
	l, _, service := kernelPathLab(t)
	tap := startTap(t, l, node1)
	onKernelPath(t, l, tap, "near", service)
	open := dialFrom(t, l, "near").raw(t, service)
	if err := echoes(t, open); err != nil {
		t.Fatal(err)
	}
	l.KillAgent(node1)
	if err := echoes(t, open); err != nil {
		t.Errorf("while the agent is away: %v", err)
	}
	if r := say(l, "near", service, "hello"); strings.HasSuffix(r.Stdout, "hello") {
		t.Errorf("got an answer of a strict pod whose agent is away: %s", r)
	}
	l.StartAgent(node1)
	waitEnrolled(t, l, "default/server", "default/near")
	if err := echoes(t, open); err != nil {
		t.Errorf("with another agent: %v", err)
	}
	onKernelPath(t, l, startTap(t, l, node1), "near", service)
}

// TestKernelPathFollowsPolicy: a policy that denies a client ends its connections on the
// kernel path, with the reason, and refuses new ones; without it they take the path again.
func TestKernelPathFollowsPolicy(t *testing.T) {
	t.Parallel()
	l, pod, service := kernelPathLab(t)
	tap := startTap(t, l, node1)
	onKernelPath(t, l, tap, "near", service)
	open := dialFrom(t, l, "near").raw(t, service)
	if err := echoes(t, open); err != nil {
		t.Fatal(err)
	}
	policy := linkerdServer("echo", 7000) + fmt.Sprintf(linkerdWeb, "web")
	l.Apply(policy)
	if n, err := open.Read(make([]byte, 1)); err == nil {
		t.Errorf("got %d bytes on a connection that the policy does not allow, want its end", n)
	}
	if e := tap.wait("the cut", func(e event) bool {
		return e.ConnCloseEvent != nil && e.Origin == "kernel" && e.TLS == "same-node" && e.Reason != ""
	}); e.Reason != "policy-denied" {
		t.Errorf("got the end %s, want the reason policy-denied", e)
	}
	for _, to := range []string{pod, service} {
		if r := say(l, "near", to, "hello"); strings.HasSuffix(r.Stdout, "hello") {
			t.Errorf("%s: got an answer in spite of the policy: %s", to, r)
		}
	}
	l.Delete(policy)
	onKernelPath(t, l, tap, "near", service)
}

// TestKernelPathTakeOver: while an agent takes the node over from another one, no connection
// to the opaque port of a strict server is lost, one that is open goes on, and the kernel path
// is there again.
func TestKernelPathTakeOver(t *testing.T) {
	l, _, service := kernelPathLab(t)
	onKernelPath(t, l, startTap(t, l, node1), "near", service)
	open := dialFrom(t, l, "near").raw(t, service)
	if err := echoes(t, open); err != nil {
		t.Fatal(err)
	}
	client := inPod(t, l, "near", "labtest", "knock", service)
	client.line()
	old := nodeOf(t, l, node1).Agent
	succeed(t, l, node1)
	l.Eventually(patience, func() error {
		if log := l.Logs(node1); !strings.Contains(log, "waiting to be stopped") {
			return errors.New("the agent has not been succeeded")
		}
		return nil
	})
	if err := syscall.Kill(old.Pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	l.Eventually(patience, func() error {
		if now := nodeOf(t, l, node1).Agent; now.Pid != 0 {
			return errors.New("the old agent has not ended")
		}
		return nil
	})
	taken := agentStatus(t, l, node1).KernelEvents["kernel-path"]
	onKernelPath(t, l, startTap(t, l, node1), "near", service)
	attempts := readKnocks(t, client)
	for _, a := range attempts {
		if a.outcome() != "done" {
			t.Errorf("got %+v, want each connection done", a)
		}
	}
	if len(attempts) < 100 || taken < 50 {
		t.Errorf("got %d connections, and %d on the kernel path: too few to show anything", len(attempts), taken)
	}
	if err := echoes(t, open); err != nil {
		t.Errorf("a connection that was open: %v", err)
	}
}

// TestKernelPathFollowsPods: a pod that takes the server's place, with another address, is
// reached in its place; a client that leaves the mesh is an outsider at once.
func TestKernelPathFollowsPods(t *testing.T) {
	t.Parallel()
	l, _, service := kernelPathLab(t)
	tap := startTap(t, l, node1)
	onKernelPath(t, l, tap, "near", service)
	second := opaqueServer("second")
	second.Labels = merge(second.Labels, map[string]string{"app": "server"})
	l.Apply(second.manifest())
	l.WaitEnrolled(patience, "default/second")
	first := serverPod("server", node1)
	l.Delete(first.manifest())
	address := l.Pod("second").IP()
	l.Eventually(patience, func() error {
		if e := onKernelPath(t, l, tap, "near", service); e.Destination.IP != address.String() {
			return fmt.Errorf("got the event %s, want one to %s", e, address)
		}
		return nil
	})
	l.Label("default/near", "underlane.io/mesh-")
	l.Eventually(patience, func() error {
		if r := say(l, "near", addrPort(address, 7000), "hello"); strings.HasSuffix(r.Stdout, "hello") {
			return fmt.Errorf("got an answer of a strict server outside the mesh: %s", r)
		}
		return nil
	})
}

// TestKernelPathAffinity: with session affinity a client's connections on the kernel path go to
// the endpoint that the proxy has chosen for it, and stay there while other endpoints come and
// go; when it goes, another one is chosen, and the path leads there.
func TestKernelPathAffinity(t *testing.T) {
	t.Parallel()
	server := func(name string) podSpec {
		p := opaqueServer(name)
		p.Labels = merge(p.Labels, map[string]string{"app": "servers"})
		return p
	}
	clients := []string{"near-1", "near-2", "near-3"}
	pods := []podSpec{server("server-1"), server("server-2"), server("server-3")}
	wait := []string{"default/server-1", "default/server-2", "default/server-3"}
	for _, c := range clients {
		pods, wait = append(pods, clientPod(c, node1)), append(wait, "default/"+c)
	}
	l := lab.Up(t, lab.Options{}, manifests(pods...),
		strings.Replace(opaqueService("servers"), "spec: {", "spec: {sessionAffinity: ClientIP, ", 1))
	waitEnrolled(t, l, wait...)
	service := addrPort(l.ServiceIPs("default/servers")[0], 7000)
	tap := startTap(t, l, node1)
	ended := func(client, origin string) []event {
		return tap.all(func(e event) bool {
			return e.ConnCloseEvent != nil && e.Origin == origin && e.Source.Metadata["pod"] == client && e.Reason == ""
		})
	}
	// chosen returns the pod that the connections of a client go to on the kernel path.
	chosen := func(client string) (string, error) {
		onKernelPath(t, l, tap, client, service)
		before := len(ended(client, "kernel"))
		for range 10 {
			if r := say(l, client, service, "hello"); !strings.HasSuffix(r.Stdout, "hello") {
				return "", fmt.Errorf("%s: %s", client, r)
			}
		}
		var list []event
		l.Eventually(patience, func() error {
			if list = ended(client, "kernel")[before:]; len(list) < 10 {
				return fmt.Errorf("%s: %d of 10 connections have ended on the kernel path", client, len(list))
			}
			return nil
		})
		pod := list[0].Destination.Metadata["pod"]
		for _, e := range list {
			if got := e.Destination.Metadata["pod"]; got != pod {
				return "", fmt.Errorf("%s: a connection went to %s, and another to %s", client, pod, got)
			}
		}
		return pod, nil
	}
	first := map[string]string{}
	for _, c := range clients {
		var err error
		if first[c], err = chosen(c); err != nil {
			t.Fatal(err)
		}
		proxied := ended(c, "proxy")
		if len(proxied) == 0 {
			t.Errorf("%s: the proxy has carried none of its connections", c)
		}
		for _, e := range proxied {
			if got := e.Destination.Metadata["pod"]; got != first[c] {
				t.Errorf("%s: the proxy has chosen %s, and the kernel path goes to %s", c, got, first[c])
			}
		}
	}
	gone := server(first[clients[0]])
	l.Delete(gone.manifest())
	for _, c := range clients {
		l.Eventually(patience, func() error {
			got, err := chosen(c)
			if err == nil && got == gone.Name {
				err = fmt.Errorf("%s: got %s, which has gone", c, got)
			}
			if err == nil && first[c] != gone.Name && got != first[c] {
				t.Errorf("%s: got %s after %s has gone, want %s still", c, got, gone.Name, first[c])
			}
			return err
		})
	}
}
