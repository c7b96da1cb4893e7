package e2e

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/underlane/underlane/test/lab"
	"github.com/underlane/underlane/test/slow"
)

// TestOpaqueStreamsAfar: between nodes that are far apart, a message of some hundred kilobytes on
// a new connection takes about as many round trips as without the mesh, where TCP's slow start
// makes them.
func TestOpaqueStreamsAfar(t *testing.T) {
	const (
		port    = 9000
		delay   = 20 * time.Millisecond
		message = 400 << 10
	)
	best := map[bool]time.Duration{}
	for _, bare := range []bool{true, false} {
		l := upL7With(t, lab.Options{NoMesh: bare, AgentArgs: streamsOn})
		echoIn(t, l.Lab, "far", port)
		to := addrPort(l.Pod("far").IP(), port)
		apart(t, l.Lab, node1, l.Pod("far").IP(), delay)
		learn(t, l, to)
		for range 5 {
			c := l.from.raw(t, to)
			c.send("\x00hello")
			c.expect("\x00hello")
			began := time.Now()
			go func() { _, _ = c.Write(make([]byte, message)) }()
			if _, err := io.CopyN(io.Discard, c.r, message); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); best[bare] == 0 || took < best[bare] {
				best[bare] = took
			}
			c.Close()
		}
	}
	t.Logf("without the mesh %v, with it %v", best[true], best[false])
	if best[false] > best[true]*3/2+2*delay {
		t.Errorf("%d bytes to and fro took %v, and %v without the mesh", message, best[false], best[true])
	}
}

// TestNewStreamsObeyTheNetwork: what refuses new connections between two pods, and lets open ones
// live on, as most NetworkPolicies do, holds for opaque connections soon, too: each may be a
// stream of a connection that is open.
func TestNewStreamsObeyTheNetwork(t *testing.T) {
	t.Parallel()
	const port = 9000
	l := upL7With(t, lab.Options{AgentArgs: streamsOn})
	echoIn(t, l.Lab, "far", port)
	far := l.Pod("far").IP()
	to := addrPort(far, port)
	learn(t, l, to)
	open := l.from.raw(t, to)
	_ = open.SetDeadline(time.Now().Add(3 * patience))
	open.send("\x00hello")
	open.expect("\x00hello")
	l.NodeExec(node1, "nft", "add table inet e2e")
	l.NodeExec(node1, "nft", "add chain inet e2e forward { type filter hook forward priority 0; }")
	l.NodeExec(node1, "nft", fmt.Sprintf("add rule inet e2e forward ip daddr %s tcp flags syn / syn,ack reject with tcp reset", far))
	began, passed := time.Now(), 0
	l.Eventually(2*patience, func() error {
		if err := echoedOnce(t, l.from, to); err == nil {
			passed++
			return errors.New("new connections pass by the filter")
		}
		return nil
	})
	t.Logf("%d connections passed within %v", passed, time.Since(began))
	if took := time.Since(began); took > 45*time.Second {
		t.Errorf("new connections passed by the filter for %v", took)
	}
	open.send("still there")
	open.expect("still there")
}

// TestHungAgentOfOpaqueStreams: while the server's agent hangs, its kernel refuses handshakes, and
// a new connection fails soon. One that could be a stream of a connection that looks open does, too.
func TestHungAgentOfOpaqueStreams(t *testing.T) {
	const port = 9000
	l := upL7With(t, lab.Options{AgentArgs: streamsOn})
	echoIn(t, l.Lab, "far", port)
	to := addrPort(l.Pod("far").IP(), port)
	learn(t, l, to)
	var open []*rawConn
	for range 100 { // several shared connections
		c := l.from.raw(t, to)
		c.send("\x00hello")
		c.expect("\x00hello")
		open = append(open, c)
	}
	l.SignalAgent(node2, "STOP")
	time.Sleep(3 * time.Second) // more than --heartbeat-timeout
	began := time.Now()
	if err := echoedOnce(t, l.from, to); err == nil {
		t.Error("a connection was made while the server's agent hangs")
	}
	took := time.Since(began)
	t.Logf("refused after %v", took)
	if took > slow.Times(1500*time.Millisecond) {
		t.Errorf("a connection was refused after %v, want about a second", took)
	}
	l.SignalAgent(node2, "CONT")
	l.Eventually(patience, func() error { return echoedOnce(t, l.from, to) })
	for _, c := range open {
		c.Close()
	}
}
