package lab_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/underlane/underlane/test/lab"
)

// fakeBin has the agent and the controller of these tests. They are scripts: the
// tests are about how the lab runs them.
const fakeBin = "testdata/fakebin"

func TestAgentsAndController(t *testing.T) {
	l := lab.Up(t, lab.Options{Bin: fakeBin, AgentArgs: []string{"--extra=1"}, ControllerArgs: []string{"--more"}}, pod("a", "sleep", "1000"))
	state := filepath.Join("/run", l.Name())
	s := l.State()

	controller := l.Logs("controller")
	for _, want := range []string{
		"--manifests " + state + "/manifests", "--data-dir " + state + "/controller",
		"--listen 192.168.77.254:8443", "--trust-domain cluster.local", "--more",
	} {
		if !strings.Contains(controller, want) {
			t.Errorf("controller log: got %s, want %q in it", controller, want)
		}
	}
	for _, node := range s.Nodes {
		netns, err := os.Stat(node.Netns)
		if err != nil {
			t.Fatal(err)
		}
		log := l.Logs(node.Name)
		for _, want := range []string{
			"agent run --node " + node.Name,
			"--controller 192.168.77.254:8443",
			"--trust-anchors " + state + "/controller/anchors.pem",
			"--bootstrap-token-file " + filepath.Join(state, node.Name, "token"),
			"--cgroup-root " + node.Cgroup, "--pin-root /sys/fs/bpf/" + l.Name() + "/" + node.Name,
			"--socket " + filepath.Join(state, node.Name, "agent.sock"),
			"--metrics-addr 0.0.0.0:4191",
			"--extra=1",
			"token: token of " + node.Name + " anchors: anchors",
			"/" + node.Name + "/agent\n",
			fmt.Sprintf("netns: net:[%d]", inode(netns)),
		} {
			if !strings.Contains(log, want) {
				t.Errorf("log of the agent of %s: got %s, want %q in it", node.Name, log, want)
			}
		}
		// As in a cluster by default: what has only the node's address has no rights.
		if strings.Contains(log, "--node-ip") {
			t.Errorf("the agent of %s trusts addresses: %s", node.Name, log)
		}
	}
	if got, want := l.Agent("node-2", "env"), s.Nodes[1].Socket+" "+s.Nodes[1].Pins+" "+s.Nodes[1].Cgroup+"\n"; got != want {
		t.Errorf("environment of the agent's command line: %s, want %s", got, want)
	}

	l.KillAgent("node-1")
	if a := l.State().Nodes[0].Agent; a.Pid != 0 || !strings.Contains(a.Exit, "killed") {
		t.Errorf("after SIGKILL: got %+v, want the agent killed", a)
	}
	if r := lab.Run(l.Command("kill-agent", "node-1")); r.Code == 0 || !strings.Contains(r.Stderr, "not running") {
		t.Errorf("second kill: got %s, want an error: not running", r)
	}
	l.StartAgent("node-1")
	if a := l.State().Nodes[0].Agent; a.Pid == 0 {
		t.Errorf("after start: got %+v, want the agent running", a)
	}
	pid := l.State().Nodes[1].Agent.Pid
	for _, signal := range []string{"STOP", "CONT", "TERM"} {
		l.SignalAgent("node-2", signal)
		if signal == "STOP" {
			l.Eventually(30*time.Second, func() error { // it stops only when it is scheduled
				if text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); !strings.Contains(string(text), ") T ") {
					return fmt.Errorf("after SIGSTOP: %s %v", text, err)
				}
				return nil
			})
		}
	}
	if a := l.State().Nodes[1].Agent; a.Exit != "exit status 0" {
		t.Errorf("after SIGTERM: got %+v, want exit status 0", a)
	}
	before := s.Controller.Pid
	l.RestartController()
	if now := l.State().Controller.Pid; now == 0 || now == before {
		t.Errorf("the controller has pid %d, want a new one, not %d", now, before)
	}
}

func TestUpSaysWhyTheMeshIsNotReady(t *testing.T) {
	l := lab.New(t)
	r := lab.Run(l.Command("up", "--bin", fakeBin, "--agent-arg=--fail", "testdata/late.yaml"))
	for _, want := range []string{"the agent of node-1", "exit status 1", "cannot work like this"} {
		if r.Code != 1 || !strings.Contains(r.Stderr, want) {
			t.Errorf("want %q: %s", want, r)
		}
	}
	assertNothingLeft(t, l.Name())
	r = lab.Run(l.Command("up", "--bin", t.TempDir(), "testdata/late.yaml"))
	if r.Code != 1 || !strings.Contains(r.Stderr, "make build") {
		t.Errorf("without programs: got %s, want an error that names `make build`", r)
	}
}

func TestProgramsStartWhenThePodIsEnrolled(t *testing.T) {
	l := lab.Up(t, lab.Options{Nodes: 1, Bin: fakeBin}, pod("bare", "sleep", "1000"))
	mark := l.State().Nodes[0].Socket + ".enrolled"
	early := pod("early", "sh", "-c", "ls "+mark+"; sleep 1000")
	l.Apply(strings.Replace(early, "name: early", "name: early\n  labels: {underlane.io/mesh: enabled}", 1))
	l.Eventually(30*time.Second, func() error {
		if log := l.Logs("early"); log != mark+"\n" {
			return fmt.Errorf("the program began with %q", log)
		}
		return nil
	})
	// An agent that hangs or does not enrol only delays a pod.
	l.SignalAgent("node-1", "STOP")
	l.Apply(strings.Replace(pod("late", "sleep", "1000"), "name: late", "name: late\n  labels: {underlane.io/mesh: enabled}", 1))
}
