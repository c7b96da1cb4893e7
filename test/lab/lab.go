// Package lab brings up a lab for a test and takes it down again: real nodes and
// pods on this machine, with the programs of this tree (see cmd/lab). A test of
// the data path is six lines:
//
//	l := lab.Up(t, lab.Options{}, "testdata/shop.yaml")
//	out := l.Exec("shop/client-1", "labtest", "get", "http://web/")
//	…
//
// Pods are named "name" (namespace default), "namespace/name", or
// "namespace/deploy/name" for one of a deployment's pods. Methods that take a pod
// or a node fail the test if they do not work, so they must be called on the
// test's goroutine. Methods that begin with Try and those that return commands do
// not.
package lab

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/underlane/underlane/test/lab/api"
	"github.com/underlane/underlane/test/lab/host"
	"github.com/underlane/underlane/test/lab/layout"
)

// KeepVariable, if set, keeps the lab of a failed test up.
const KeepVariable = "UNDERLANE_LAB_KEEP"

// AgentArgsVariable, if set, has more arguments for each agent of this tree, between spaces: all
// tests of the lab then run with a setting that is not the default.
const AgentArgsVariable = "UNDERLANE_LAB_AGENT_ARGS"

// Options are the settings of a test's lab. The zero value is two nodes with the
// mesh.
type Options struct {
	Nodes          int    // 2 if zero
	NoMesh         bool   // the same pods without the mesh
	Bin            string // directory of agent and controller; those of this tree if empty
	AgentArgs      []string
	ControllerArgs []string
	Wait           time.Duration // for every pod to be ready; a minute if zero
}

// Lab is the lab of a test.
type Lab struct {
	t    testing.TB
	name string
	bin  string // of lab and labtest
	opts Options
}

var serial atomic.Int32

// Up brings a lab up and waits until all pods and agents are ready. A manifest is
// a file, a directory, or, if it has more than one line, the text itself. The lab
// goes down at the end of the test or of the test's process.
func Up(t testing.TB, opts Options, manifests ...string) *Lab {
	t.Helper()
	l := New(t)
	l.opts = opts
	args := []string{"up", "--nodes", strconv.Itoa(cmp.Or(opts.Nodes, 2))}
	if os.Getenv(KeepVariable) == "" {
		args = append(args, "--owner", strconv.Itoa(os.Getpid()))
	}
	if opts.NoMesh {
		args = append(args, "--no-mesh")
	}
	if opts.Bin != "" {
		args = append(args, "--bin", opts.Bin)
	}
	if opts.Wait != 0 {
		args = append(args, "--wait", opts.Wait.String())
	}
	for _, a := range opts.AgentArgs {
		args = append(args, "--agent-arg="+a)
	}
	if opts.Bin == "" {
		for _, a := range strings.Fields(os.Getenv(AgentArgsVariable)) {
			args = append(args, "--agent-arg="+a)
		}
	}
	for _, a := range opts.ControllerArgs {
		args = append(args, "--controller-arg="+a)
	}
	l.must(l.Command(append(args, l.files(manifests)...)...))
	return l
}

// New returns a lab that is not up, for tests that call its commands themselves.
func New(t testing.TB) *Lab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("left out: the lab makes namespaces and cgroups, and that needs root")
	}
	l := &Lab{t: t, name: fmt.Sprintf("%s%d-%d", testPrefix, os.Getpid(), serial.Add(1)), bin: Bin(t)}
	sweep()
	t.Cleanup(l.end)
	return l
}

// Name returns the lab's name, the value for --state of the lab's command.
func (l *Lab) Name() string { return l.name }

// Bin returns the directory of lab and labtest.
func (l *Lab) Bin() string { return l.bin }

// Command returns a command of the lab's command line for this lab, not started.
func (l *Lab) Command(args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(l.bin, "lab"), args...)
	cmd.Env = append(os.Environ(), "UNDERLANE_LAB="+l.name)
	return cmd
}

// State returns the state of the whole lab.
func (l *Lab) State() api.State {
	l.t.Helper()
	var s api.State
	if err := json.Unmarshal([]byte(l.must(l.Command("pods", "-o", "json")).Stdout), &s); err != nil {
		l.t.Fatalf("state of the lab: %v", err)
	}
	return s
}

// Pod returns a pod with its addresses, namespace, process and link.
func (l *Lab) Pod(ref string) api.Pod {
	l.t.Helper()
	namespace, target := splitRef(ref)
	name, ofDeployment := strings.CutPrefix(target, "deploy/")
	for _, p := range l.State().Pods {
		if p.Namespace == namespace && (p.Name == name && !ofDeployment || p.Deployment == name && ofDeployment) {
			return p
		}
	}
	l.t.Fatalf("there is no pod %q in the lab", ref)
	return api.Pod{}
}

// ServiceIPs returns the ClusterIPs of the service "namespace/name", IPv4 first.
func (l *Lab) ServiceIPs(ref string) []netip.Addr {
	l.t.Helper()
	namespace, name := splitRef(ref)
	for _, s := range l.State().Services {
		if s.Namespace == namespace && s.Name == name {
			return s.IPs
		}
	}
	l.t.Fatalf("there is no service %q in the lab", ref)
	return nil
}

// Apply applies manifests, given as to Up, and waits until all pods are ready.
func (l *Lab) Apply(manifests ...string) {
	l.t.Helper()
	l.must(l.Command(append([]string{"apply"}, l.files(manifests)...)...))
}

// Delete deletes the objects of manifests, given as to Up.
func (l *Lab) Delete(manifests ...string) {
	l.t.Helper()
	l.must(l.Command(append([]string{"delete"}, l.files(manifests)...)...))
}

// Scale scales a deployment, "namespace/deploy/name".
func (l *Lab) Scale(ref string, replicas int) {
	l.t.Helper()
	namespace, target := splitRef(ref)
	l.must(l.Command("scale", "-n", namespace, target, "--replicas", strconv.Itoa(replicas)))
}

// Label changes labels of a running pod ("namespace/pod/name"), of all pods of a
// deployment ("namespace/deploy/name") or of a namespace ("ns/name"). KEY=VALUE
// sets a label and KEY- removes it.
func (l *Lab) Label(ref string, changes ...string) { l.t.Helper(); l.mark("label", ref, changes) }

// Annotate changes annotations as Label does labels.
func (l *Lab) Annotate(ref string, changes ...string) { l.t.Helper(); l.mark("annotate", ref, changes) }

func (l *Lab) mark(command, ref string, changes []string) {
	l.t.Helper()
	namespace, target := "default", ref
	if !strings.HasPrefix(ref, "ns/") {
		namespace, target = splitRef(ref)
		if !strings.Contains(target, "/") {
			target = "pod/" + target
		}
	}
	l.must(l.Command(append([]string{command, "-n", namespace, target}, changes...)...))
}

// KillAgent kills the agent of a node with SIGKILL and waits for its end.
func (l *Lab) KillAgent(node string) { l.t.Helper(); l.SignalAgent(node, "KILL") }

// SignalAgent signals the agent of a node. After KILL and TERM it waits for the
// agent's end, after STOP and CONT it does not wait.
func (l *Lab) SignalAgent(node, signal string) {
	l.t.Helper()
	l.must(l.Command("kill-agent", node, "--signal", signal))
}

// StartAgent starts the agent of a node again and waits until it is ready.
func (l *Lab) StartAgent(node string) { l.t.Helper(); l.must(l.Command("start-agent", node)) }

// KillController kills the controller with SIGKILL.
func (l *Lab) KillController() { l.t.Helper(); l.must(l.Command("kill-controller")) }

// StartController starts the controller again.
func (l *Lab) StartController() { l.t.Helper(); l.must(l.Command("start-controller")) }

// RestartController stops the controller with SIGTERM and starts it again.
func (l *Lab) RestartController() { l.t.Helper(); l.must(l.Command("restart-controller")) }

// Logs returns the log of a pod, of the "controller", of a node's agent ("node-1")
// or of the lab itself ("lab").
func (l *Lab) Logs(ref string) string {
	l.t.Helper()
	namespace, target := splitRef(ref)
	return l.must(l.Command("logs", "-n", namespace, target)).Stdout
}

// Eventually calls f until it returns nil. After patience it fails the test with
// f's last error.
func (l *Lab) Eventually(patience time.Duration, f func() error) {
	l.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			l.t.Fatalf("still after %s: %v", patience, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// splitRef splits [namespace/]name and [namespace/]kind/name.
func splitRef(ref string) (namespace, target string) {
	first, rest, ok := strings.Cut(ref, "/")
	if !ok || ((first == "pod" || first == "deploy") && !strings.Contains(rest, "/")) {
		return "default", ref
	}
	return first, strings.TrimPrefix(rest, "pod/")
}

// files writes manifests that are text to files.
func (l *Lab) files(manifests []string) []string {
	l.t.Helper()
	var out []string
	for _, m := range manifests {
		if !strings.Contains(m, "\n") {
			out = append(out, m)
			continue
		}
		f, err := os.CreateTemp(l.t.TempDir(), "inline-*.yaml")
		if err == nil {
			_, err = f.WriteString(m)
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			l.t.Fatalf("write the manifest of a test: %v", err)
		}
		out = append(out, f.Name())
	}
	return out
}

func (l *Lab) end() {
	if l.t.Failed() {
		l.explain()
		if os.Getenv(KeepVariable) != "" {
			return
		}
	}
	if r := Run(l.Command("down")); r.Code != 0 {
		l.t.Errorf("bring the lab down: %s", r)
	}
}

// explain logs what helps to find the cause of a failure.
func (l *Lab) explain() {
	if os.Getenv(KeepVariable) != "" {
		l.t.Logf("the lab is left up: UNDERLANE_LAB=%s %s pods; … exec, agent, logs, down", l.name, filepath.Join(l.bin, "lab"))
	} else {
		l.t.Logf("to look inside: run the test again with %s=1, which leaves its lab up", KeepVariable)
	}
	lay, err := layout.Open(l.name)
	if err != nil {
		return
	}
	l.t.Logf("pods:\n%s", Run(l.Command("pods")).Stdout)
	logs := []string{lay.Log(), lay.ControllerLog()}
	for n := 1; n <= cmp.Or(l.opts.Nodes, 2); n++ {
		logs = append(logs, lay.AgentLog(layout.NodeName(n)))
	}
	for _, path := range logs {
		if text, err := os.ReadFile(path); err == nil && len(text) > 0 {
			l.t.Logf("the end of %s:\n%s", path, text[max(0, len(text)-4000):])
		}
	}
}

const testPrefix = "ultest-"

// sweep removes labs of earlier test processes that were killed together with the
// lab's supervisor. Otherwise the supervisor removes its lab itself.
var sweep = sync.OnceFunc(func() {
	own, err := layout.Open(layout.DefaultName)
	if err != nil {
		return // Up says so
	}
	names := map[string]bool{}
	for _, dir := range []string{layout.RunDir, own.Cgroup2, layout.NetnsDir, layout.BPFFS} {
		entries, _ := os.ReadDir(dir) // without the directory there is nothing to remove
		for _, e := range entries {
			name, _, _ := strings.Cut(strings.TrimPrefix(e.Name(), "ul."), ".")
			names[name] = strings.HasPrefix(name, testPrefix)
		}
	}
	for name, ours := range names {
		text, _, _ := strings.Cut(strings.TrimPrefix(name, testPrefix), "-")
		pid, err := strconv.Atoi(text)
		if !ours || err != nil || host.Alive(pid) {
			continue
		}
		if lay, err := layout.Open(name); err == nil && host.Owner(lay.LockFile()) == 0 {
			host.Clear(lay)
			os.Remove(lay.LockFile())
		}
	}
})
