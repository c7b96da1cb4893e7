package e2e

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/test/lab"
)

// upgrade is a lab in which agents and the controller change their version.
type upgrade struct {
	*versions
	*lab.Lab
	t     *testing.T
	heirs map[string]*successor // the agents that the lab has not started itself, by node
	args  map[string][]string   // of the agents that it has
	held  []*background         // connections that were open before a step
}

// agent has an agent of a version take the node over, and stops the one before, as a
// rolling update does.
func (u *upgrade) agent(node, version string) {
	u.t.Helper()
	u.program("agent", version)
	before := u.heirs[node]
	stopped := func() bool { return strings.Contains(u.Logs(node), "waiting to be stopped") }
	if before != nil {
		stopped = func() bool { return before.said("waiting to be stopped") }
	}
	next := succeedWith(u.t, u.Lab, node, u.args[node])
	u.Eventually(patience, func() error {
		if !next.said("agent runs") { // from then on it is the one that answers
			return fmt.Errorf("%s: the successor does not run", node)
		}
		st, err := tryStatus(u.Lab, node)
		if err == nil && !st.Ready {
			err = fmt.Errorf("%s: the successor is not ready: %v", node, st.NotReady)
		}
		return err
	})
	if stopped() {
		u.t.Errorf("%s: the agent before does not wait for the connections that it carries", node)
	}
	u.endHeld()
	u.Eventually(patience, func() error {
		if !stopped() {
			return fmt.Errorf("%s: the agent before has not drained", node)
		}
		return nil
	})
	if err := u.runs(next.cmd.Process.Pid, version); err != nil {
		u.t.Error(err)
	}
	if before != nil {
		_ = before.cmd.Process.Signal(unix.SIGTERM)
		if err := <-before.done; err != nil {
			u.t.Errorf("%s: the agent that was succeeded: %v", node, err)
		}
		before.done <- nil
	} else if now := nodeOf(u.t, u.Lab, node).Agent; now.Pid != 0 {
		u.SignalAgent(node, "TERM")
	}
	u.heirs[node] = next
}

// endHeld ends the connections that are open since before the step, and fails the test if
// one was cut. They are used all the time.
func (u *upgrade) endHeld() {
	u.t.Helper()
	if len(u.held) > 0 {
		time.Sleep(500 * time.Millisecond) // for some more rounds of each
	}
	for _, h := range u.held {
		h.end() // fails the test if the program has failed
	}
	u.held = nil
}

// controller replaces the controller by one of a version.
func (u *upgrade) controller(version string) {
	u.t.Helper()
	u.program("controller", version)
	u.RestartController()
	for _, node := range []string{node1, node2} {
		u.Eventually(patience, func() error {
			st, err := tryStatus(u.Lab, node)
			if err == nil && !st.Controller.Connected {
				err = errors.New(node + " is not connected to the controller")
			}
			return err
		})
	}
}

// An installation of the release before becomes this one, first the controller and then
// the agents, and is rolled back: in each step all new connections are made, to a strict
// server on another node and to one beside them, by a client that fails open and by one that
// fails closed. They are few at a time, so that a machine that is busy with loading programs answers them.
// A connection that an agent carries when it is succeeded lives on, and the agent waits for
// its end, although the two versions lay a map out differently. One on the kernel path, which
// only this version has, lives on under the release before.
func TestFullUpgrade(t *testing.T) {
	v := newVersions(t)
	v.program("agent", "old")
	v.program("controller", "old")
	server := serverPod("server", node2)
	server.Annotations = map[string]string{"underlane.io/policy": "strict"}
	closed := clientPod("closed-client", node1)
	closed.Annotations = failClosed
	near := serverPod("near", node1) // beside the clients
	near.Annotations = map[string]string{"underlane.io/policy": "strict", "underlane.io/opaque-ports": "7000"}
	l := lab.Up(t, lab.Options{Bin: v.dir, AgentArgs: []string{"--drain-timeout=5m"}}, manifests(clientPod("client", node1), closed, server, near))
	waitEnrolled(t, l, "default/client", "default/closed-client", "default/server", "default/near")
	u := &upgrade{
		versions: v, Lab: l, t: t, heirs: map[string]*successor{},
		args: map[string][]string{node1: agentArgs(t, l, node1), node2: agentArgs(t, l, node2)},
	}
	for _, step := range []struct {
		what string
		do   func()
	}{
		{"the controller is new", func() { u.controller("new") }},
		{"the server's agent is new", func() { u.agent(node2, "new") }},
		{"the client's agent is new", func() { u.agent(node1, "new") }},
		{"nothing changes", u.maps},
		{"the client's agent is old", func() { u.agent(node1, "old") }},
		{"the client's agent is new again", func() { u.agent(node1, "new") }},
		{"the client's agent is old again", func() { u.agent(node1, "old") }},
		{"the server's agent is old", func() { u.agent(node2, "old") }},
		{"the controller is old", func() { u.controller("old") }},
		{"the server's agent is new before the controller", func() { u.agent(node2, "new") }},
		{"the controller is new again", func() { u.controller("new") }},
	} {
		u.step(step.what, step.do)
	}
}

// maps checks, while all agents are new, that they have said that maps are new (which ones,
// TestFullMapsOfReleaseBefore in bpf knows), and that a connection beside its server takes
// the kernel path: those that the next step finds open do.
func (u *upgrade) maps() {
	u.t.Helper()
	for node, next := range u.heirs {
		if !next.said("a pinned map is of another version") {
			u.t.Errorf("%s: the new agent does not say that maps are new", node)
		}
	}
	onKernelPath(u.t, u.Lab, startTap(u.t, u.Lab, node1), "client", addrPort(u.Pod("near").IP(), 7000))
}

// step does something under traffic, and fails the test for each attempt that fails.
func (u *upgrade) step(what string, do func()) {
	u.t.Helper()
	clients := map[string]*background{}
	for _, name := range []string{"client", "closed-client"} {
		for _, server := range []string{"server", "near"} {
			to := addrPort(u.Pod(server).IP(), 7000)
			held := inPod(u.t, u.Lab, name, "labtest", "hold", "--timeout", "60s", to)
			held.line()
			u.held = append(u.held, held)
			knocks := inPod(u.t, u.Lab, name, "labtest", "knock", "--interval", "20ms", "--most", "4", "--timeout", "60s", to)
			knocks.line()
			clients[name+" to "+server] = knocks
		}
	}
	do()
	u.endHeld()
	for name, client := range clients {
		attempts := readKnocks(u.t, client)
		var longest time.Duration
		for _, a := range attempts {
			longest = max(longest, a.Took)
			if a.outcome() == "done" {
				continue
			}
			u.t.Errorf("%s: %s: %+v", what, name, a)
		}
		u.t.Logf("%s: %s: %d connections, the longest took %v", what, name, len(attempts), longest.Round(time.Millisecond))
		if len(attempts) < 10 {
			u.t.Errorf("%s: %s made only %d attempts", what, name, len(attempts))
		}
	}
}
