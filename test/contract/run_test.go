package contract

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/underlane/underlane/test/contract/history"
	"github.com/underlane/underlane/test/contract/inject"
	"github.com/underlane/underlane/test/contract/schedule"
	"github.com/underlane/underlane/test/lab"
)

// stage is a lab with its clients, on which the faults of a schedule are played.
type stage struct {
	*lab.Lab
	cast
	t       *testing.T
	dir     string // where servers write what arrives
	clients []*client
	addrs   map[string][]netip.Addr // of pods and the service
	storms  int                     // so far
	clocks  map[int]*inject.Clock   // of processes

	mu       sync.Mutex
	attempts []history.Attempt
	tenures  []history.Tenure
	faults   []history.Fault
}

// play plays a schedule on a lab of its own and returns what happened. The agents have args, too.
func play(t *testing.T, c cast, faults []schedule.Fault, args ...string) *history.History {
	t.Helper()
	s := &stage{cast: c, t: t, dir: t.TempDir(), clocks: make(map[int]*inject.Clock)}
	began := time.Now()
	s.Lab = lab.Up(t, lab.Options{
		AgentArgs:      append([]string{"--take-over", "--heartbeat-timeout=" + heartbeat.String(), "--drain-timeout=" + drain.String()}, args...),
		ControllerArgs: []string{"--workload-cert-lifetime=" + certLifetime.String()},
		Nodes:          len(c.nodes),
	}, c.manifests(s.dir))
	s.addrs = map[string][]netip.Addr{"web": s.ServiceIPs("default/web")}
	for _, p := range s.State().Pods {
		s.addrs[p.Name] = p.IPs
		s.tenures = append(s.tenures, history.Tenure{Pod: p.Name, Node: p.Node, Addrs: p.IPs, From: began})
	}
	s.whole()
	capture := startCapture(t, s.Lab, node2)
	for name, interval := range callers {
		s.clients = append(s.clients, s.startPeer(name, slices.Sorted(maps.Keys(c.targets)), "--interval", interval.String()))
	}
	up := time.Since(began)
	s.warm()
	t.Logf("the lab is up in %s, every client has its first answers in %s", up.Round(time.Millisecond), (time.Since(began) - up).Round(time.Millisecond))
	loads := startWitness(t)
	for len(faults) > 0 {
		n := 1
		for n < len(faults) && faults[n].With {
			n++
		}
		s.strike(faults[:n])
		faults = faults[n:]
	}
	time.Sleep(time.Second) // some attempts when all is healed
	for _, c := range s.clients {
		c.end()
	}
	return &history.History{Attempts: s.attempts, Deliveries: s.deliveries(), Sightings: capture(), Tenures: s.tenures, Faults: s.faults, Loads: loads()}
}

// whole waits until the agents of all nodes are ready and connected to the controller,
// and have all labelled pods enrolled.
func (s *stage) whole() {
	s.t.Helper()
	for _, node := range s.nodes {
		s.Eventually(patience, func() error { return s.agentWhole(node) })
	}
}

func (s *stage) agentWhole(node string) error {
	var st struct {
		Ready      bool
		NotReady   []string
		Controller struct{ Connected bool }
		Pods       []struct{ Name, State string }
	}
	r := s.TryAgent(node, "status", "-o", "json")
	if err := json.Unmarshal([]byte(r.Stdout), &st); err != nil {
		return fmt.Errorf("status of %s: %w: %s", node, err, r)
	}
	if !st.Ready || !st.Controller.Connected {
		return fmt.Errorf("the agent of %s is not ready (%v) or not connected (%v)", node, st.NotReady, st.Controller.Connected)
	}
	for _, p := range s.pods {
		if p.node != node || !p.meshed {
			continue
		}
		i := slices.IndexFunc(st.Pods, func(got struct{ Name, State string }) bool { return got.Name == p.name })
		if i < 0 || st.Pods[i].State != "enrolled" {
			return fmt.Errorf("the agent of %s has not enrolled %s: %v", node, p.name, st.Pods)
		}
	}
	return nil
}

// warm waits until every client has been answered, in each way, by all targets that let
// it in: their addresses are known to its agent then.
func (s *stage) warm() {
	s.t.Helper()
	m := s.mesh()
	s.Eventually(patience, func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		answered := map[string]int{}
		for _, a := range s.attempts {
			if a.Outcome == history.OK {
				answered[fmt.Sprintf("%s to %s, %s, IPv4 %v", a.Client, a.To, a.How, a.Addr.Addr().Is4())]++
			}
		}
		for client := range callers {
			for to, t := range s.targets {
				for _, how := range history.Ways {
					for _, v4 := range []bool{true, false} {
						what := fmt.Sprintf("%s to %s, %s, IPv4 %v", client, to, how, v4)
						if answered[what] == 0 && (m.Clients[client].Meshed || !t.Strict) {
							return errors.New("no answer yet: " + what)
						}
					}
				}
			}
		}
		return nil
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.attempts = nil // what the mesh did before all was known is not part of the run
}

// deliveries are what the servers have written down.
func (s *stage) deliveries() []history.Delivery {
	s.t.Helper()
	files, err := filepath.Glob(filepath.Join(s.dir, "*.jsonl"))
	if err != nil {
		s.t.Fatal(err)
	}
	var out []history.Delivery
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			s.t.Fatal(err)
		}
		for line := range bytes.Lines(text) {
			var d history.Delivery
			if err := json.Unmarshal(line, &d); err != nil {
				continue // the last line of a server that was killed
			}
			out = append(out, d)
		}
	}
	return out
}

// client is a client that runs in its pod.
type client struct {
	s     *stage
	name  string
	stdin io.WriteCloser
	done  chan error
}

// startPeer starts a client in its pod, which makes attempts to targets.
func (s *stage) startPeer(name string, to []string, args ...string) *client {
	s.t.Helper()
	cmd := s.PodCommand(name, append([]string{peerBinary, "call", "--name", name}, args...)...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	c := &client{s: s, name: name, stdin: in, done: make(chan error, 1)}
	go func() {
		err := s.read(bufio.NewScanner(out))
		c.done <- errors.Join(err, cmd.Wait())
	}()
	s.t.Cleanup(func() { c.end() })
	for _, target := range to {
		c.tell(target, s.addrs[target])
	}
	return c
}

// tell gives the client a target, instead of the one of that name if it has one.
func (c *client) tell(target string, addrs []netip.Addr) {
	c.s.t.Helper()
	if err := json.NewEncoder(c.stdin).Encode(map[string]any{"to": target, "addrs": addrs}); err != nil {
		c.s.t.Fatalf("tell the client %s where %s is: %v", c.name, target, err)
	}
}

func (s *stage) read(lines *bufio.Scanner) error {
	for lines.Scan() {
		var a history.Attempt
		if err := json.Unmarshal(lines.Bytes(), &a); err != nil {
			return fmt.Errorf("a client printed %q: %w", lines.Text(), err)
		}
		s.mu.Lock()
		s.attempts = append(s.attempts, a)
		s.mu.Unlock()
	}
	return lines.Err()
}

// end ends the client, when its attempts have ended.
func (c *client) end() {
	if c.done == nil {
		return
	}
	_ = c.stdin.Close()
	select {
	case err := <-c.done:
		if err != nil {
			c.s.t.Errorf("the client %s: %v", c.name, err)
		}
	case <-time.After(patience):
		c.s.t.Errorf("the client %s does not end", c.name)
	}
	c.done = nil
}
