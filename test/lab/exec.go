package lab

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/underlane/underlane/test/slow"
)

// Result is the result of a program.
type Result struct {
	Stdout, Stderr string
	Code           int // exit status; -1 if it was killed or did not start
	err            error
	what           string
}

func (r Result) String() string {
	return fmt.Sprintf("%s: exit status %d (%v)\nstdout: %s\nstderr: %s", r.what, r.Code, r.err, clip(r.Stdout), clip(r.Stderr))
}

func clip(s string) string {
	s = strings.TrimSpace(s)
	if len(s) > 4000 {
		s = s[:2000] + " … " + s[len(s)-2000:]
	}
	return s
}

// Run runs a command until it ends.
func Run(cmd *exec.Cmd) Result {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	r := Result{Stdout: stdout.String(), Stderr: stderr.String(), err: err, what: strings.Join(cmd.Args[1:], " ")}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		r.Code = exit.ExitCode()
	case err != nil:
		r.Code = -1
	}
	return r
}

// must runs a command and fails the test if it fails.
func (l *Lab) must(cmd *exec.Cmd) Result {
	l.t.Helper()
	r := Run(cmd)
	if r.Code != 0 {
		l.t.Fatalf("lab %s", r)
	}
	return r
}

// PodCommand returns a command, not started, that runs a program of this machine
// inside a pod. The caller connects its input and output.
func (l *Lab) PodCommand(pod string, argv ...string) *exec.Cmd {
	namespace, target := splitRef(pod)
	return l.Command(append([]string{"exec", "-n", namespace, target, "--"}, argv...)...)
}

// Exec runs a program of this machine inside a pod and returns its standard
// output.
func (l *Lab) Exec(pod string, argv ...string) string {
	l.t.Helper()
	return l.must(l.PodCommand(pod, argv...)).Stdout
}

// TryExec is like Exec for a program that may fail.
func (l *Lab) TryExec(pod string, argv ...string) Result { return Run(l.PodCommand(pod, argv...)) }

// NodeCommand returns a command, not started, that runs a program in the network
// namespace of a node.
func (l *Lab) NodeCommand(node string, argv ...string) *exec.Cmd {
	return l.Command(append([]string{"node-exec", node, "--"}, argv...)...)
}

// NodeExec runs a program in the network namespace of a node and returns its
// standard output.
func (l *Lab) NodeExec(node string, argv ...string) string {
	l.t.Helper()
	return l.must(l.NodeCommand(node, argv...)).Stdout
}

// AgentCommand returns a command, not started, that runs the agent's command line
// for the agent of a node.
func (l *Lab) AgentCommand(node string, args ...string) *exec.Cmd {
	return l.Command(append([]string{"agent", node, "--"}, args...)...)
}

// Agent runs the agent's command line for the agent of a node and returns its
// standard output. On a slow machine it asks again if the agent does not answer in time.
func (l *Lab) Agent(node string, args ...string) string {
	l.t.Helper()
	const patience = 5 * time.Second // of the command
	for end := time.Now().Add(slow.Times(patience)); ; {
		r := Run(l.AgentCommand(node, args...))
		if r.Code == 0 {
			return r.Stdout
		}
		if !strings.Contains(r.Stderr, "does not answer: it hangs") || time.Now().After(end) {
			l.t.Fatalf("lab %s", r)
		}
	}
}

// TryAgent is like Agent for a command that may fail.
func (l *Lab) TryAgent(node string, args ...string) Result {
	return Run(l.AgentCommand(node, args...))
}
