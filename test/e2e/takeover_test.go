package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/underlane/underlane/test/lab"
)

// successor is a second agent on a node, started beside the one that runs.
type successor struct {
	t    *testing.T
	cmd  *exec.Cmd
	mu   sync.Mutex
	log  bytes.Buffer
	done chan error
}

func (s *successor) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.Write(p)
}

func (s *successor) said(text string) bool { return strings.Contains(s.text(), text) }

// text is what it has logged.
func (s *successor) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

// succeed starts an agent with the arguments of the node's own, and more.
func succeed(t *testing.T, l *lab.Lab, node string, more ...string) *successor {
	t.Helper()
	return succeedWith(t, l, node, slices.Concat(agentArgs(t, l, node), more))
}

// agentArgs are the arguments of the agent that the lab has started on the node.
func agentArgs(t *testing.T, l *lab.Lab, node string) []string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", nodeOf(t, l, node).Agent.Pid))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(text), "\x00"), "\x00")[1:]
}

// succeedWith starts an agent with these arguments.
func succeedWith(t *testing.T, l *lab.Lab, node string, args []string) *successor {
	t.Helper()
	argv := slices.Concat([]string{"agent", node, "--"}, args, []string{"--take-over"})
	s := &successor{t: t, cmd: l.Command(argv...), done: make(chan error, 1)}
	s.cmd.Stdout, s.cmd.Stderr = s, s
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { s.done <- s.cmd.Wait() }()
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		<-s.done
		if t.Failed() {
			t.Logf("the successor on %s:\n%s", node, s.log.String())
		}
	})
	return s
}

// The agents of both nodes are replaced while a client makes connection after
// connection to a strict server: each is carried with mTLS, none fails open.
func TestTakeOver(t *testing.T) {
	server := serverPod("server", node2)
	server.Annotations = map[string]string{"underlane.io/policy": "strict"}
	closed := clientPod("closed-client", node1)
	closed.Annotations = failClosed
	l := lab.Up(t, lab.Options{AgentArgs: []string{"--drain-timeout=20s"}}, manifests(clientPod("client", node1), closed, server))
	waitEnrolled(t, l, "default/client", "default/closed-client", "default/server")
	target := l.Pod("server").IP().String() + ":7000"
	clients := map[string]*background{}
	for _, name := range []string{"client", "closed-client"} {
		clients[name] = inPod(t, l, name, "labtest", "knock", target)
		clients[name].line()
	}
	before := map[string]map[string]uint64{node1: agentStatus(t, l, node1).KernelEvents, node2: agentStatus(t, l, node2).KernelEvents}

	for _, node := range []string{node2, node1} {
		old := nodeOf(t, l, node).Agent
		stop := func() {
			if err := syscall.Kill(old.Pid, syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
		}
		s := succeed(t, l, node)
		if node == node1 {
			// An agent that is stopped too early waits for its successor.
			l.Eventually(patience, func() error {
				if !strings.Contains(l.Logs(node), "gets ready to take the node over") {
					return errors.New("the agent has heard of no successor")
				}
				return nil
			})
			stop()
		}
		l.Eventually(patience, func() error {
			if log := l.Logs(node); !strings.Contains(log, "waiting to be stopped") {
				return fmt.Errorf("the agent of %s has not been succeeded", node)
			}
			return nil
		})
		l.Eventually(patience, func() error {
			if !s.said("ready to take over") {
				return fmt.Errorf("%s: the successor did not get ready beforehand", node)
			}
			st, err := tryStatus(l, node)
			if err == nil && !st.Ready {
				err = fmt.Errorf("%s: the successor is not ready: %v", node, st.NotReady)
			}
			return err
		})
		if node == node2 {
			stop()
		}
		l.Eventually(patience, func() error {
			if now := nodeOf(t, l, node).Agent; now.Pid != 0 {
				return fmt.Errorf("the old agent of %s has not ended", node)
			}
			return nil
		})
	}

	time.Sleep(500 * time.Millisecond)
	for name, client := range clients {
		attempts := readKnocks(t, client)
		for _, a := range attempts {
			if a.outcome() != "done" {
				t.Errorf("%s: %+v", name, a)
			}
		}
		t.Logf("%s: %d connections", name, len(attempts))
		if len(attempts) < 100 {
			t.Errorf("%s made only %d attempts", name, len(attempts))
		}
	}
	for node, was := range before {
		for name, n := range agentStatus(t, l, node).KernelEvents {
			if strings.Contains(name, "no-listener") || strings.Contains(name, "stale-agent") {
				if n != was[name] {
					t.Errorf("%s: %s went from %d to %d", node, name, was[name], n)
				}
			}
		}
	}
}

// An agent that starts while no controller answers leaves the node to the one that
// has it. Once it has the node it knows whom the pods connect to, although the
// controller may go again.
func TestTakeOverWithoutController(t *testing.T) {
	t.Parallel()
	strict := map[string]string{"underlane.io/policy": "strict"}
	server, other := serverPod("server", node2), serverPod("other", node2)
	server.Annotations, other.Annotations = strict, strict
	l := lab.Up(t, lab.Options{AgentArgs: []string{"--drain-timeout=1s"}}, manifests(clientPod("client", node1), server, other))
	waitEnrolled(t, l, "default/client", "default/server", "default/other")
	once := func(server string) {
		t.Helper()
		knock := inPod(t, l, "client", "labtest", "knock", l.Pod(server).IP().String()+":7000")
		knock.line()
		for _, a := range readKnocks(t, knock) {
			if a.outcome() != "done" {
				t.Errorf("%+v", a)
			}
		}
	}
	once("other")
	once("server") // known, before the controller goes
	client := inPod(t, l, "client", "labtest", "knock", l.Pod("server").IP().String()+":7000")
	client.line()

	l.KillController()
	s := succeed(t, l, node1)
	time.Sleep(11 * time.Second) // longer than it waits for certificates
	if s.said("taking over") {
		t.Error("an agent that knows nothing takes the node over")
	}
	l.StartController()
	l.Eventually(patience, func() error {
		if !strings.Contains(l.Logs(node1), "waiting to be stopped") {
			return errors.New("the agent has not been succeeded")
		}
		return nil
	})
	l.KillController()
	once("other")
	for _, a := range readKnocks(t, client) {
		if a.outcome() != "done" {
			t.Errorf("%+v", a)
		}
	}
}

// While an agent takes the node over it has some of the pods and its predecessor
// the others: a client of the one gets to strict servers of the other with its
// identity all the same.
func TestTakeOverBetweenNeighbours(t *testing.T) {
	const servers = 6
	pods := []podSpec{clientPod("client", node1)}
	for i := range servers {
		server := serverPod(fmt.Sprintf("server-%d", i), node1)
		server.Annotations = map[string]string{"underlane.io/policy": "strict"}
		pods = append(pods, server)
	}
	l := lab.Up(t, lab.Options{Nodes: 1, AgentArgs: []string{"--drain-timeout=20s"}}, manifests(pods...))
	clients := map[string]*background{}
	for _, p := range pods[1:] {
		waitEnrolled(t, l, "default/client", "default/"+p.Name)
		clients[p.Name] = inPod(t, l, "client", "labtest", "knock", "--interval", "3ms", "--most", "4", "--timeout", "60s", l.Pod(p.Name).IP().String()+":7000")
		clients[p.Name].line()
	}
	retired := func() bool { return strings.Contains(l.Logs(node1), "waiting to be stopped") }
	for range 3 { // which pods come first differs
		s := succeed(t, l, node1)
		l.Eventually(patience, func() error {
			if !retired() {
				return errors.New("the agent has not been succeeded")
			}
			return nil
		})
		retired = func() bool { return s.said("waiting to be stopped") }
	}
	for name, client := range clients {
		attempts := readKnocks(t, client)
		for _, a := range attempts {
			if a.outcome() != "done" {
				t.Errorf("%s: %+v", name, a)
			}
		}
		if len(attempts) < 100 {
			t.Errorf("%s got only %d attempts", name, len(attempts))
		}
	}
}

// A successor that dies before it has the node costs nothing: the agent that ran
// carries on, and another one may try.
func TestTakeOverFails(t *testing.T) {
	l := lab.Up(t, lab.Options{Nodes: 1}, manifests(clientPod("client", node1), serverPod("server", node1)))
	waitEnrolled(t, l, "default/client", "default/server")
	client := inPod(t, l, "client", "labtest", "knock", l.Pod("server").IP().String()+":7000")
	client.line()
	for range 2 {
		carryingOn := strings.Count(l.Logs(node1), "carrying on")
		s := succeed(t, l, node1, "--cgroup-root=/nowhere")
		if err := <-s.done; err == nil {
			t.Error("an agent without a cgroup runs")
		}
		s.done <- nil
		l.Eventually(patience, func() error {
			if strings.Count(l.Logs(node1), "carrying on") == carryingOn {
				return fmt.Errorf("the agent has not taken the node back")
			}
			return nil
		})
	}
	// It takes pods in again.
	l.Apply(manifests(clientPod("late", node1)))
	waitEnrolled(t, l, "default/late")
	for _, a := range readKnocks(t, client) {
		if a.outcome() != "done" {
			t.Errorf("%+v", a)
		}
	}
}

// An agent that was stopped with nobody to succeed it drains, and new
// connections fail open: one that comes meanwhile need not wait for its end.
func TestTakeOverWhileDraining(t *testing.T) {
	l := lab.Up(t, lab.Options{Nodes: 1, AgentArgs: []string{"--drain-timeout=5m"}}, manifests(clientPod("client", node1), serverPod("server", node1)))
	waitEnrolled(t, l, "default/client", "default/server")
	target := l.Pod("server").IP().String() + ":7000"
	held := inPod(t, l, "client", "labtest", "hold", target)
	held.line()
	old := nodeOf(t, l, node1).Agent
	if err := syscall.Kill(old.Pid, syscall.SIGTERM); err != nil { // the lab would wait for its end
		t.Fatal(err)
	}
	l.Eventually(patience, func() error {
		if !strings.Contains(l.Logs(node1), "agent stops") {
			return errors.New("the agent does not stop")
		}
		return nil
	})
	s := succeed(t, l, node1)
	l.Eventually(patience, func() error {
		if !s.said("agent runs") { // from then on it is the one that answers
			return errors.New("the successor does not run")
		}
		return nil
	})
	waitEnrolled(t, l, "default/client", "default/server")
	if now := nodeOf(t, l, node1).Agent; now.Pid != old.Pid {
		t.Error("the old agent ended with a connection open")
	}
	captured := agentStatus(t, l, node1).KernelEvents["captured-outbound"]
	knocks := inPod(t, l, "client", "labtest", "knock", target)
	knocks.line()
	for _, a := range readKnocks(t, knocks) {
		if a.outcome() != "done" {
			t.Errorf("%+v", a)
		}
	}
	if n := agentStatus(t, l, node1).KernelEvents["captured-outbound"]; n == captured {
		t.Error("new connections pass by the mesh")
	}
	held.end()
	l.Eventually(patience, func() error {
		if now := nodeOf(t, l, node1).Agent; now.Pid != 0 {
			return errors.New("the old agent has not ended, with nothing left to do")
		}
		return nil
	})
}

// Requests that must not be sent twice go one after the other over connections
// that are kept, while the server's agent is replaced: none is lost with its
// connection.
func TestTakeOverOfBusyConnections(t *testing.T) {
	l := lab.Up(t, lab.Options{AgentArgs: []string{"--drain-timeout=2s"}}, manifests(clientPod("client", node1), serverPod("server", node2)))
	waitEnrolled(t, l, "default/client", "default/server")
	dialer := dialFrom(t, l, "client")
	url := "http://" + addrPort(l.Pod("server").IP(), 8080) + "/up"
	ctx, cancel := context.WithCancel(t.Context())
	var served atomic.Int64
	post := func(c *http.Client) error {
		resp, err := c.Post(url, "text/plain", strings.NewReader("hello"))
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s: %s", resp.Status, text)
		}
		return err
	}
	var clients sync.WaitGroup
	for range 48 {
		clients.Go(func() {
			transport := &http.Transport{DialContext: dialer.DialContext}
			defer transport.CloseIdleConnections()
			for client := (&http.Client{Transport: transport, Timeout: patience}); ctx.Err() == nil; served.Add(1) {
				if err := post(client); err != nil {
					t.Error(err)
				}
			}
		})
	}
	retired := func() bool { return strings.Contains(l.Logs(node2), "waiting to be stopped") }
	for range 3 {
		s := succeed(t, l, node2)
		l.Eventually(patience, func() error {
			if !retired() {
				return errors.New("the agent has not been succeeded")
			}
			return nil
		})
		retired = func() bool { return s.said("waiting to be stopped") }
	}
	cancel()
	clients.Wait()
	t.Logf("%d requests", served.Load())
	if served.Load() < 1000 {
		t.Error("too few to mean anything")
	}
}
