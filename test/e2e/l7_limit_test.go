package e2e

import (
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/underlane/underlane/test/lab"
)

// TestPodConnections: what the agents are told bounds the connections of a pod,
// on the client's node and on the server's, and what is refused is counted.
func TestPodConnections(t *testing.T) {
	t.Parallel()
	const most = 5
	l := lab.Up(t, lab.Options{AgentArgs: []string{"--pod-connections=5"}}, manifests(
		clientPod("client", node1), clientPod("other", node1), serverPod("far", node2), serverPod("far-2", node2),
	))
	waitEnrolled(t, l, "default/client", "default/other", "default/far", "default/far-2")
	echo := func(d *podDialer, server string) (net.Conn, error) {
		// The echo port: each connection is one between the nodes.
		c, err := d.DialContext(t.Context(), "tcp", addrPort(l.Pod(server).IP(), 7000))
		if err != nil {
			return nil, err
		}
		raw := newRaw(t, c)
		if _, err := io.WriteString(raw, "\x00ping\n"); err != nil {
			return nil, err
		}
		if _, err := io.ReadFull(raw, make([]byte, 6)); err != nil {
			return nil, err
		}
		return c, nil
	}
	hits := func(node, limit string) float64 {
		return metric(metrics(t, l, node), "underlane_limit_hits_total", "limit="+limit)
	}
	client, other := dialFrom(t, l, "client"), dialFrom(t, l, "other")
	accepted := func(d *podDialer, server string, n int) {
		t.Helper()
		for i := range n {
			if _, err := echo(d, server); err != nil {
				t.Fatalf("connection %d: %v", i+1, err)
			}
		}
	}
	accepted(client, "far", most-2) // one client does not get all connections of a server
	accepted(client, "far-2", 2)
	refused := func(d *podDialer) {
		t.Helper()
		if _, err := echo(d, "far"); err == nil || !cut(err) {
			t.Errorf("a connection too many: %v", err)
		}
	}
	refused(client)
	if n := hits(node1, "pod-connections-outbound"); n != 1 {
		t.Errorf("%v are counted at the client's node", n)
	}
	if n := hits(node2, "pod-connections-inbound"); n != 0 {
		t.Errorf("%v are counted at the server's node, which has seen none too many", n)
	}
	accepted(other, "far", 2)
	refused(other) // has room for itself: the server has none
	if n := hits(node2, "pod-connections-inbound"); n == 0 {
		t.Error("none is counted at the server's node")
	}
	l.Exec("far", "labtest", "get", "http://127.0.0.1:8080/") // the pod itself is as well as before
	if s := agentStatus(t, l, node2); !s.Ready {
		t.Errorf("%+v", s)
	}
}

// cut reports whether a connection was ended by the other side.
func cut(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) ||
		errors.Is(err, syscall.EPIPE) || strings.Contains(err.Error(), "reset by peer")
}
