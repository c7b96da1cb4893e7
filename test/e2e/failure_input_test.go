package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/underlane/underlane/test/lab"
)

// agentArgv is the command line that a node's agent was started with.
func agentArgv(t *testing.T, l *lab.Lab, node string) []string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", nodeOf(t, l, node).Agent.Pid))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(text), "\x00"), "\x00")
}

// failsToStart runs an agent that must end at once and say why.
func failsToStart(t *testing.T, l *lab.Lab, argv []string, want ...string) {
	t.Helper()
	began := time.Now()
	r := lab.Run(l.NodeCommand(node1, append([]string{"timeout", "20"}, argv...)...))
	for _, w := range want {
		if r.Code != 1 || !strings.Contains(r.Stderr, w) {
			t.Errorf("want exit status 1 and %q: %s", w, r)
		}
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %s to fail", took)
	}
}

func TestAgentsThatCannotStart(t *testing.T) {
	l := lab.Up(t, lab.Options{}, manifests(clientPod("client", node1), serverPod("web", node2)))
	waitEnrolled(t, l, "default/client", "default/web")
	argv := agentArgv(t, l, node1)
	config := func(text string) []string {
		file := filepath.Join(t.TempDir(), "agent.yaml")
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return append(slices.Clone(argv), "--config", file)
	}
	// own is the command line with a socket of its own.
	own := func() []string { return append(slices.Clone(argv), "--socket", filepath.Join(bridgeDir(t), "sock")) }
	pins := objects(t, nodeOf(t, l, node1).Pins)

	t.Run("second agent", func(t *testing.T) {
		failsToStart(t, l, argv, "another agent is running on this node")
	})
	t.Run("second agent with another socket", func(t *testing.T) {
		failsToStart(t, l, append(slices.Clone(argv), "--socket", filepath.Join(bridgeDir(t), "sock")), "another agent runs on this node")
	})
	t.Run("second agent with other pins", func(t *testing.T) {
		pins := nodeOf(t, l, node1).Pins + "-2"
		failsToStart(t, l, append(slices.Clone(argv), "--pin-root", pins), "another agent is running on this node")
		if _, err := os.Stat(pins); err == nil {
			t.Errorf("it left %s", pins)
		}
	})
	t.Run("unknown key", func(t *testing.T) {
		failsToStart(t, l, config("node: node-1\nheartbeet-timeout: 3s\n"), "agent.yaml", `there is no setting "heartbeet-timeout"`)
	})
	t.Run("bad value", func(t *testing.T) {
		failsToStart(t, l, config("heartbeat-timeout: soon\n"), "agent.yaml", "heartbeat-timeout", "soon")
	})
	t.Run("no YAML", func(t *testing.T) {
		failsToStart(t, l, config("node: [\n"), "agent.yaml", "line 1")
	})
	t.Run("no config file", func(t *testing.T) {
		failsToStart(t, l, append(slices.Clone(argv), "--config", "/nonexistent.yaml"), "config file", "/nonexistent.yaml")
	})
	t.Run("no token", func(t *testing.T) {
		failsToStart(t, l, append(own(), "--bootstrap-token-file", "/nonexistent"), "bootstrap token", "controller token --node node-1")
	})
	t.Run("pins not on bpffs", func(t *testing.T) {
		failsToStart(t, l, append(own(), "--pin-root", filepath.Join(t.TempDir(), "pins")), "is not on a bpf file system", "mount -t bpf")
	})
	t.Run("no cgroup", func(t *testing.T) {
		pins := nodeOf(t, l, node1).Pins + "-3"
		failsToStart(t, l, append(own(), "--cgroup-root", "/nonexistent", "--pin-root", pins), "/nonexistent")
		if _, err := os.Stat(pins); err == nil {
			t.Errorf("it left %s", pins)
		}
	})

	if diff := cmp.Diff(pins, objects(t, nodeOf(t, l, node1).Pins)); diff != "" {
		t.Errorf("the pins of the agent that runs (-before +after):\n%s", diff)
	}
	assertInMesh(t, l, true)
}

func TestMetricsPortTaken(t *testing.T) {
	t.Parallel()
	l := lab.Up(t, lab.Options{}, manifests(clientPod("client", node1), serverPod("web", node2)))
	waitEnrolled(t, l, "default/client", "default/web")
	argv := agentArgv(t, l, node1)
	l.KillAgent(node1)
	squatter := l.NodeCommand(node1, "labtest", "echo", "--listen", ":4191")
	if err := squatter.Start(); err != nil {
		t.Fatal(err)
	}
	l.Eventually(patience, func() error {
		if r := lab.Run(l.NodeCommand(node1, "labtest", "dial", "127.0.0.1:4191")); r.Code != 0 {
			return fmt.Errorf("nobody listens on 4191: %s", r)
		}
		return nil
	})
	failsToStart(t, l, argv, "metrics", ":4191", "is the port taken?")
	_ = squatter.Process.Kill()
	_ = squatter.Wait()
	l.StartAgent(node1)
	waitEnrolled(t, l, "default/client")
	assertInMesh(t, l, true)
}

// An application may listen on the agent's ports: the agent takes others, and
// the application's stay reachable.
func TestAgentsPortsTaken(t *testing.T) {
	t.Parallel()
	web := serverPod("web", node2)
	web.Command = []string{"sh", "-c", "labtest echo --listen :15001 & labtest echo --listen 0.0.0.0:15006 & exec labtest all"}
	web.Ports = append(web.Ports, 15001, 15006)
	web.Labels = nil
	l := lab.Up(t, lab.Options{}, manifests(clientPod("client", node1), web))
	waitEnrolled(t, l, "default/client")
	l.Label("pod/web", "underlane.io/mesh=enabled") // with the ports taken already
	waitEnrolled(t, l, "default/web")
	assertInMesh(t, l, true)
	tap := startTap(t, l, node2)
	host := l.Pod("web").IP().String()
	for _, port := range []uint16{7000, 15001, 15006} {
		cmd := l.PodCommand("client", "labtest", "dial", fmt.Sprintf("%s:%d", host, port))
		cmd.Stdin = strings.NewReader("hello\n")
		if r := lab.Run(cmd); r.Code != 0 || r.Stdout != "hello\n" {
			t.Errorf("port %d of a pod whose application uses the agent's ports: %s", port, r)
			continue
		}
		tap.wait(fmt.Sprintf("the connection to port %d", port), func(e event) bool {
			return e.ConnCloseEvent != nil && e.Destination.Port == port && e.TLS == "true" && e.ProxyDirection == "INBOUND"
		})
	}
	// And the pod's own connections go through the mesh.
	before := agentStatus(t, l, node2).KernelEvents["captured-outbound"]
	l.Exec("web", "labtest", "get", "http://"+host+":8080/") // its own address is not captured
	l.Exec("web", "sh", "-c", "labtest dial "+l.Pod("client").IP().String()+":7000 || true")
	if n := agentStatus(t, l, node2).KernelEvents["captured-outbound"]; n != before+1 {
		t.Errorf("%d connections of the pod were captured, want 1", n-before)
	}
}

func TestPodsThatVanishMidway(t *testing.T) {
	t.Parallel()
	l := lab.Up(t, lab.Options{Nodes: 1}, manifests(clientPod("client", node1), serverPod("web", node1)))
	waitEnrolled(t, l, "default/client", "default/web")
	pins := nodeOf(t, l, node1).Pins
	before := objects(t, pins)
	pods := func() int {
		var entries []any
		bpftool(t, &entries, "map", "dump", "pinned", filepath.Join(pins, "pods"))
		return len(entries)
	}
	hadPods := pods()
	dir := t.TempDir()
	for i := range 10 {
		p := clientPod(fmt.Sprintf("brief-%d", i), node1)
		p.Account = fmt.Sprintf("brief-%d", i) // an identity that needs a certificate first
		file := filepath.Join(dir, p.Name+".yaml")
		if err := os.WriteFile(file, []byte(p.manifest()), 0o644); err != nil {
			t.Fatal(err)
		}
		apply := l.Command("apply", "--wait", "0", file)
		if err := apply.Start(); err != nil {
			t.Fatal(err)
		}
		// At each time another part of the way in.
		time.Sleep(time.Duration(i) * 15 * time.Millisecond)
		l.Eventually(patience, func() error {
			if r := lab.Run(l.Command("delete", file)); r.Code != 0 {
				return fmt.Errorf("%s", r)
			}
			for _, have := range l.State().Pods {
				if have.Name == p.Name {
					return fmt.Errorf("pod %s is still there", p.Name)
				}
			}
			return nil
		})
		_ = apply.Wait() // it may have lost its pod on the way
		if r := lab.Run(l.Command("delete", file)); r.Code != 0 {
			t.Logf("%s", r)
		}
	}
	l.Eventually(patience, func() error {
		s, err := tryStatus(l, node1)
		switch {
		case err != nil:
			return err
		case !s.Ready || len(s.Pods) != 2:
			return fmt.Errorf("ready %v (%q), pods %+v", s.Ready, s.NotReady, s.Pods)
		case pods() != hadPods:
			return fmt.Errorf("%d pods in the map, want %d", pods(), hadPods)
		}
		if diff := cmp.Diff(before, objects(t, pins)); diff != "" {
			return fmt.Errorf("pins (-before +after):\n%s", diff)
		}
		return nil
	})
	l.Exec("client", "labtest", "get", "http://"+l.Pod("web").IP().String()+":8080/after")
}
