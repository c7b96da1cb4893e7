package contract

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/test/contract/schedule"
)

// succeeded is what an agent logs that has given the node to its successor.
const succeeded = "waiting to be stopped"

// upgradeAgent replaces the lab's agent of a node by another one, as a rolling update
// does, and that one by the lab's again. All agents of the lab have --take-over.
func upgradeAgent(s *stage, f schedule.Fault) (heal func()) {
	s.t.Helper()
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", s.node(f.Node).Agent.Pid))
	if err != nil {
		s.t.Fatal(err)
	}
	argv := strings.Split(strings.TrimSuffix(string(cmdline), "\x00"), "\x00")
	before := strings.Count(s.Logs(f.Node), succeeded)
	next := s.startAgent(slices.Concat([]string{"agent", f.Node, "--"}, argv[1:]))
	s.Eventually(patience, func() error {
		if strings.Count(s.Logs(f.Node), succeeded) == before {
			return fmt.Errorf("the agent of %s has not been succeeded", f.Node)
		}
		return nil
	})
	s.SignalAgent(f.Node, "TERM")
	return func() {
		s.StartAgent(f.Node)
		s.Eventually(patience, func() error {
			if !next.said(succeeded) {
				return fmt.Errorf("the second agent of %s has not been succeeded", f.Node)
			}
			return nil
		})
		next.stop()
	}
}

// agent is an agent beside that of the lab.
type agent struct {
	s    *stage
	cmd  *exec.Cmd
	done chan error
	mu   sync.Mutex
	log  bytes.Buffer
}

func (s *stage) startAgent(args []string) *agent {
	s.t.Helper()
	a := &agent{s: s, cmd: s.Command(args...), done: make(chan error, 1)}
	a.cmd.Stdout, a.cmd.Stderr = a, a
	if err := a.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func() { a.done <- a.cmd.Wait() }()
	s.t.Cleanup(func() {
		_ = a.cmd.Process.Kill() // an error means that it has ended
		if s.t.Failed() {
			a.mu.Lock()
			defer a.mu.Unlock()
			text := a.log.String()
			s.t.Logf("the end of the second agent's log:\n%s", text[max(0, len(text)-4000):])
		}
	})
	return a
}

func (a *agent) Write(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.log.Write(p)
}

func (a *agent) said(text string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return strings.Contains(a.log.String(), text)
}

// stop stops the agent and waits for its end.
func (a *agent) stop() {
	a.s.t.Helper()
	if err := a.cmd.Process.Signal(unix.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		a.s.t.Fatal(err)
	}
	if err := <-a.done; err != nil {
		a.s.t.Errorf("the second agent: %v", err)
	}
}
