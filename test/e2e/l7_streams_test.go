package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/underlane/underlane/test/lab"
)

// streamsOn is the default, for tests that need it.
var streamsOn = []string{"--opaque-streams"}

// echoIn echoes what connections to a port of a pod carry, and ends them after their clients.
func echoIn(t *testing.T, l *lab.Lab, pod string, port int) {
	t.Helper()
	ln := listenIn(t, l, pod, port)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c})
			}()
		}
	}()
}

// between counts the connections at the client that lead to a port of another pod: those
// that its agent has made.
func between(l *l7Lab, port int) (n int) {
	suffix := fmt.Sprintf(":%04X", port)
	for _, line := range strings.Split(l.Exec("client", "cat", "/proc/net/tcp"), "\n") {
		if f := strings.Fields(line); len(f) > 3 && strings.HasSuffix(f[2], suffix) && f[3] == "01" {
			n++
		}
	}
	return n
}

// TestOpaqueStreams: by default opaque connections between nodes share a connection of the agents,
// and neither side sees that they do.
func TestOpaqueStreams(t *testing.T) {
	const port = 9000
	for _, bare := range []bool{true, false} {
		t.Run(map[bool]string{true: "bare", false: "meshed"}[bare], func(t *testing.T) {
			opaqueStreams(t, upL7With(t, lab.Options{NoMesh: bare}), port)
		})
	}
}

func opaqueStreams(t *testing.T, l *l7Lab, port int) {
	echoIn(t, l.Lab, "far", port)
	to := addrPort(l.Pod("far").IP(), port)
	learn(t, l, to)
	var open []*rawConn
	for i := range 40 {
		c := l.from.raw(t, to)
		message := fmt.Sprintf("\x00message %d", i)
		c.send(message)
		c.expect(message)
		open = append(open, c)
	}
	if n := between(l, port); !l.bare && n > 3 || l.bare && n < 40 {
		t.Errorf("%d connections lead to the server's pod", n)
	}
	t.Run("bytes", func(t *testing.T) {
		var all sync.WaitGroup
		for i, c := range open[:20] {
			random := rand.New(rand.NewPCG(1, uint64(i)))
			sent := make([]byte, random.IntN(64<<10<<(i%8)))
			for j := range sent {
				sent[j] = byte(random.Uint32())
			}
			all.Go(func() {
				for rest := sent; len(rest) > 0; {
					n := min(len(rest), 1+random.IntN(100_000))
					if _, err := c.Write(rest[:n]); err != nil {
						t.Error(err)
						return
					}
					rest = rest[n:]
				}
				_ = c.CloseWrite()
			})
			all.Go(func() {
				if got, err := io.ReadAll(c.r); err != nil || !bytes.Equal(got, sent) {
					t.Errorf("%d bytes came back of %d: %v", len(got), len(sent), err)
				}
			})
		}
		all.Wait()
	})
	t.Run("a client that does not read", func(t *testing.T) {
		stalled, other := open[20], open[21]
		var writing sync.WaitGroup
		writing.Go(func() {
			for {
				if _, err := stalled.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		})
		for i := range 200 {
			message := fmt.Sprintf("beside it %d", i)
			other.send(message)
			other.expect(message)
		}
		stalled.Close()
		writing.Wait()
	})
	t.Run("short ones", func(t *testing.T) {
		const clients, each = 20, 250
		var all sync.WaitGroup
		var failed atomic.Int32
		for range clients {
			all.Go(func() {
				for range each {
					if err := echoedOnce(t, l.from, to); err != nil && failed.Add(1) < 5 {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		if n := between(l, port); n > 60 {
			t.Errorf("%d connections lead to the server's pod after these", n)
		}
	})
	for _, c := range open[22:] { // those of before live on
		c.send("still there")
		c.expect("still there")
	}
}

// learn makes short connections, so that the client's agent knows them to be short.
func learn(t *testing.T, l *l7Lab, to string) {
	t.Helper()
	for range 8 {
		if err := echoedOnce(t, l.from, to); err != nil {
			t.Fatal(err)
		}
	}
}

func echoedOnce(t *testing.T, from *podDialer, to string) error {
	c, err := from.DialContext(t.Context(), "tcp", to)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := io.WriteString(c, "\x00hello"); err != nil {
		return err
	}
	got := make([]byte, 6)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "\x00hello" {
		return fmt.Errorf("%q, %w", got, errors.Join(err, errors.New("want the echo")))
	}
	_ = c.(*podConn).CloseWrite()
	_, err = io.ReadAll(c) // the end
	return err
}

// TestKilledAgentOfOpaqueStreams: streams end with the agent of either side, as dedicated
// connections do, and connections are made again once there is an agent.
func TestKilledAgentOfOpaqueStreams(t *testing.T) {
	const port = 9000
	l := upL7With(t, lab.Options{AgentArgs: streamsOn})
	echoIn(t, l.Lab, "far", port)
	to := addrPort(l.Pod("far").IP(), port)
	for _, node := range []string{node2, node1} {
		learn(t, l, to)
		var open []*rawConn
		for range 5 {
			c := l.from.raw(t, to)
			c.send("\x00hello")
			c.expect("\x00hello")
			open = append(open, c)
		}
		if n := between(l, port); n > 3 {
			t.Errorf("%d connections lead to the server's pod, want fewer than 4", n)
		}
		l.KillAgent(node)
		for _, c := range open {
			if got, err := io.ReadAll(c.r); len(got) > 0 {
				t.Errorf("got %q and %v, want the end", got, err)
			}
		}
		l.StartAgent(node)
		waitEnrolled(t, l.Lab, "default/client", "default/far")
		l.Eventually(patience, func() error { return echoedOnce(t, l.from, to) })
	}
}

// TestTakeOverOfOpaqueStreams: the agents of both nodes are replaced while connections come
// and go, each for one message: none is lost, for a stream is opened only where it will be
// served.
func TestTakeOverOfOpaqueStreams(t *testing.T) {
	const port = 9000
	l := upL7With(t, lab.Options{AgentArgs: append([]string{"--drain-timeout=5s"}, streamsOn...)})
	echoIn(t, l.Lab, "far", port)
	to := addrPort(l.Pod("far").IP(), port)
	learn(t, l, to)
	var clients sync.WaitGroup
	var done atomic.Int32
	stop := make(chan struct{})
	for range 8 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := echoedOnce(t, l.from, to); err != nil {
					t.Error(err)
					return
				}
				done.Add(1)
			}
		})
	}
	for _, node := range []string{node2, node1} {
		old := nodeOf(t, l.Lab, node).Agent
		before := done.Load()
		succeed(t, l.Lab, node)
		l.Eventually(patience, func() error {
			if !strings.Contains(l.Logs(node), "waiting to be stopped") {
				return fmt.Errorf("the agent of %s has not been succeeded", node)
			}
			if done.Load() < before+100 {
				return errors.New("traffic stands still")
			}
			return nil
		})
		if strings.Contains(l.Logs(node), "connections were cut") {
			t.Errorf("%s: connections had not ended in time", node)
		}
		if err := syscall.Kill(old.Pid, syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	clients.Wait()
	t.Logf("%d connections", done.Load())
}
