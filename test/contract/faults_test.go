package contract

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/pkg/mtls/ca"
	"github.com/underlane/underlane/test/contract/history"
	"github.com/underlane/underlane/test/contract/inject"
	"github.com/underlane/underlane/test/contract/schedule"
	"github.com/underlane/underlane/test/lab/api"
	"github.com/underlane/underlane/test/lab/fabric"
)

// strike has faults come and go, and writes them down: each strikes while those before it
// are there, and they are healed in the reverse order. It returns when all is healed.
func (s *stage) strike(group []schedule.Fault) {
	s.t.Helper()
	faults, heals := make([]history.Fault, len(group)), make([]func(), len(group))
	for i, f := range group {
		time.Sleep(f.After)
		faults[i] = history.Fault{Fault: f, Began: time.Now()}
		heals[i] = injections[f.Kind](s, f)
		faults[i].Struck = time.Now()
	}
	for i := range slices.Backward(group) {
		time.Sleep(group[i].For)
		faults[i].Healing = time.Now()
		heals[i]()
	}
	s.whole()
	healed := time.Now() // one may have kept the others from being healed
	for _, f := range faults {
		f.Healed = healed
		s.faults = append(s.faults, f)
		s.t.Logf("%s: struck in %s, healed in %s", f.Fault, f.Struck.Sub(f.Began).Round(time.Millisecond), f.Healed.Sub(f.Healing).Round(time.Millisecond))
	}
}

// injections strike, and return what heals.
var injections = map[schedule.Kind]func(*stage, schedule.Fault) (heal func()){
	schedule.AgentKilled: func(s *stage, f schedule.Fault) func() {
		s.KillAgent(f.Node)
		return func() { s.StartAgent(f.Node) }
	},
	schedule.AgentStopped: func(s *stage, f schedule.Fault) func() {
		s.SignalAgent(f.Node, "STOP")
		return func() { s.SignalAgent(f.Node, "CONT") }
	},
	schedule.AgentTerminated: func(s *stage, f schedule.Fault) func() {
		s.SignalAgent(f.Node, "TERM")
		return func() { s.StartAgent(f.Node) }
	},
	schedule.AgentUpgraded: upgradeAgent,
	schedule.AgentStarved:  func(s *stage, f schedule.Fault) func() { return s.starve(s.node(f.Node).Agent.Pid) },
	schedule.ControllerKilled: func(s *stage, _ schedule.Fault) func() {
		s.KillController()
		return s.StartController
	},
	schedule.ControllerStopped: func(s *stage, _ schedule.Fault) func() {
		pid := s.State().Controller.Pid
		s.signal(pid, unix.SIGSTOP)
		return func() { s.signal(pid, unix.SIGCONT) }
	},
	schedule.ControllerSlowed: func(s *stage, _ schedule.Fault) func() { return s.slow(s.State().Controller.Pid) },
	schedule.AgentClock: func(s *stage, f schedule.Fault) func() {
		return s.stepClock(s.node(f.Node).Agent.Pid, f.Step)
	},
	schedule.ControllerClock: func(s *stage, f schedule.Fault) func() { return s.stepClock(s.State().Controller.Pid, f.Step) },
	schedule.MapsFull: func(s *stage, f schedule.Fault) func() {
		empty, err := inject.FillMaps(s.node(f.Node).Pins)
		if err != nil {
			s.t.Fatal(err)
		}
		return func() {
			if err := empty(); err != nil {
				s.t.Fatal(err)
			}
		}
	},
	schedule.NodeCut: func(s *stage, f schedule.Fault) func() {
		s.NodeExec(f.Node, "nft", "add table inet cut; add chain inet cut in { type filter hook prerouting priority -400; }; add rule inet cut in iifname "+fabric.Uplink+" drop")
		return func() { s.NodeExec(f.Node, "nft", "delete table inet cut") }
	},
	schedule.PodReplaced: func(s *stage, f schedule.Fault) func() {
		p := podNamed(f.Pod)
		s.replace(p, guest(p))
		return func() { s.replace(guest(p), p) }
	},
	schedule.PodUnlabelled: func(s *stage, f schedule.Fault) func() {
		s.Label("default/pod/"+f.Pod, "underlane.io/mesh-")
		return func() { s.Label("default/pod/"+f.Pod, "underlane.io/mesh=enabled") }
	},
	schedule.RootRotated: func(s *stage, _ schedule.Fault) func() {
		before := s.anchors(node1)
		authority, err := ca.Open(filepath.Join("/run", s.Name(), "controller", "ca"), "cluster.local")
		if err == nil {
			err = authority.Rotate()
		}
		if err != nil {
			s.t.Fatal(err)
		}
		return func() {
			for _, node := range s.nodes {
				s.Eventually(patience, func() error {
					if n := s.anchors(node); n <= before {
						return fmt.Errorf("%s has %d trust anchors, want more", node, n)
					}
					return nil
				})
			}
		}
	},
	schedule.NodeLost: loseNode,
	schedule.HandshakeStorm: func(s *stage, f schedule.Fault) func() {
		s.storms++
		storm := s.startPeer("storm-"+strings.TrimPrefix(f.Node, "node-"), []string{f.Pod}, "--at-once", "300", "--first", fmt.Sprint(1000*s.storms))
		return storm.end
	},
}

// replace deletes a pod, and gives its addresses to another.
func (s *stage) replace(old, new pod) {
	s.t.Helper()
	s.Delete(old.manifest(s.dir))
	addrs := s.vacate(old)
	s.occupy(new, addrs)
	s.Apply(new.manifest(s.dir))
}

// vacate writes down that a pod has its addresses no more, and returns them.
func (s *stage) vacate(p pod) []netip.Addr {
	s.t.Helper()
	for i := range s.tenures {
		if t := &s.tenures[i]; t.Pod == p.name && t.To.IsZero() {
			t.To = time.Now()
			return t.Addrs
		}
	}
	s.t.Fatalf("there is no pod %s", p.name)
	return nil
}

// occupy writes down that a pod has addresses from now on.
func (s *stage) occupy(p pod, addrs []netip.Addr) {
	s.tenures = append(s.tenures, history.Tenure{Pod: p.name, Node: p.node, Addrs: addrs, From: time.Now()})
}

// node is a node's place in the lab.
func (s *stage) node(name string) api.Node {
	s.t.Helper()
	for _, n := range s.State().Nodes {
		if n.Name == name {
			return n
		}
	}
	s.t.Fatalf("there is no node %q in the lab", name)
	return api.Node{}
}

func (s *stage) signal(pid int, signal unix.Signal) {
	s.t.Helper()
	if err := unix.Kill(pid, signal); err != nil {
		s.t.Fatalf("%v to process %d: %v", signal, pid, err)
	}
}

// starve lets a process open a few more files than it has, until the returned function.
func (s *stage) starve(pid int) (feed func()) {
	s.t.Helper()
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		s.t.Fatal(err)
	}
	var before unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &before); err != nil {
		s.t.Fatal(err)
	}
	low := unix.Rlimit{Cur: uint64(len(fds) + 8), Max: before.Max}
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &low, nil); err != nil {
		s.t.Fatal(err)
	}
	return func() {
		if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &before, nil); err != nil {
			s.t.Fatal(err)
		}
	}
}

// slow lets a process run for a twentieth of the time, until the returned function.
func (s *stage) slow(pid int) (heal func()) {
	s.t.Helper()
	end, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		var err error
		for err == nil {
			err = unix.Kill(pid, unix.SIGSTOP)
			select {
			case <-end:
				ended <- errors.Join(err, unix.Kill(pid, unix.SIGCONT))
				return
			case <-time.After(95 * time.Millisecond):
			}
			err = errors.Join(err, unix.Kill(pid, unix.SIGCONT))
			time.Sleep(5 * time.Millisecond)
		}
		ended <- err
	}()
	return func() {
		s.t.Helper()
		close(end)
		if err := <-ended; err != nil {
			s.t.Fatalf("stop and continue process %d: %v", pid, err)
		}
	}
}

// stepClock steps the wall clock of a process, until the returned function.
func (s *stage) stepClock(pid int, by time.Duration) (heal func()) {
	s.t.Helper()
	clock := s.clocks[pid]
	step := func(by time.Duration) {
		s.t.Helper()
		if err := clock.Step(by); err != nil {
			s.t.Fatal(err)
		}
	}
	if clock == nil {
		var err error
		if clock, err = inject.OpenClock(pid); err != nil {
			s.t.Fatal(err)
		}
		s.clocks[pid] = clock
	}
	step(by)
	return func() { step(0) }
}

// anchors is how many roots a node's agent trusts.
func (s *stage) anchors(node string) int {
	s.t.Helper()
	var dump struct{ State struct{ Anchors int } }
	if err := json.Unmarshal([]byte(s.Agent(node, "dump")), &dump); err != nil {
		s.t.Fatal(err)
	}
	return dump.State.Anchors
}
