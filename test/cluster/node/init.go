package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/test/cluster/kernel"
	"github.com/underlane/underlane/test/cluster/layout"
)

// initCgroup is the cgroup, below the node's root, for the daemons if they cannot be
// in the root itself.
const initCgroup = "init"

// Init has the settings of a node's init process.
type Init struct {
	Node     layout.Node
	Spec     layout.Spec
	Dir      string   // the node's disk
	Cgroups  []string // the roots of the node's hierarchies
	Unified  string   // the one of version 2
	Inside   bool     // already in the cgroup namespace
	Binaries Binaries
}

// DecodeInit parses what encode returned.
func DecodeInit(text string) (Init, error) {
	var in Init
	err := json.Unmarshal([]byte(text), &in)
	return in, err
}

func (in Init) encode() string {
	text, _ := json.Marshal(in) // cannot fail for plain values
	return string(text)
}

// Run runs the node. It returns only if the node cannot start.
func (in Init) Run() error {
	if os.Getpid() != 1 {
		return fmt.Errorf("%s is for the first process of a pid namespace: use up", InitCommand)
	}
	if !in.Inside {
		return in.enterCgroups()
	}
	if err := in.mount(); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(in.Node.Name())); err != nil {
		return fmt.Errorf("set host name: %w", err)
	}
	s := supervisor{env: []string{
		"PATH=" + containerdDir + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=/root", "GOMEMLIMIT=256MiB",
	}}
	s.start("containerd", containerdArgs())
	if err := waitFor(containerdSocket, 30*time.Second); err != nil {
		return err // the log says why
	}
	s.start("kubelet", kubeletArgs(in.Node, in.Spec))
	s.start("kube-proxy", kubeProxyArgs(in.Node, in.Spec))
	s.run()
	return nil
}

// enterCgroups makes the node's cgroups the roots of a cgroup namespace. A thread
// enters a namespace. exec keeps it and leaves only that thread.
func (in Init) enterCgroups() error {
	runtime.LockOSThread()
	for _, dir := range in.Cgroups {
		if err := kernel.JoinCgroup(dir); err != nil {
			return err
		}
	}
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("new cgroup namespace: %w", err)
	}
	if in.Spec.CgroupOf(in.Node) == layout.CgroupV2 || len(in.Cgroups) == 1 {
		// A version 2 cgroup with processes cannot enable controllers for its children,
		// but the kubelet needs some for pods.
		dir := filepath.Join(in.Unified, initCgroup)
		if err := errors.Join(os.Mkdir(dir, 0o755), kernel.JoinCgroup(dir)); err != nil {
			return err
		}
	}
	in.Inside = true
	return fmt.Errorf("start again: %w", unix.Exec("/proc/self/exe", []string{"cluster", InitCommand, in.encode()}, os.Environ()))
}

func waitFor(path string, limit time.Duration) error {
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(path); err == nil {
			return nil
		}
	}
	return fmt.Errorf("%s is not there after %s", path, limit)
}

// supervisor runs the node's daemons and reaps all processes that end.
type supervisor struct {
	env     []string
	daemons []daemon
}

type daemon struct {
	name string
	argv []string
	pid  int
}

// start starts a daemon whose output goes to /var/log/NAME.log.
func (s *supervisor) start(name string, argv []string) {
	s.daemons = append(s.daemons, daemon{name: name, argv: argv})
	s.exec(&s.daemons[len(s.daemons)-1])
}

func (s *supervisor) exec(d *daemon) {
	log, err := os.OpenFile("/var/log/"+d.name+".log", os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		slog.Error("open the daemon's log", "daemon", d.name, "err", err)
		return
	}
	defer log.Close()
	// os/exec cannot be used: its Wait would compete with the loop that reaps all
	// children of this process.
	d.pid, err = forkExec(d.argv, s.env, log)
	if err != nil {
		slog.Error("start daemon", "daemon", d.name, "err", err)
	}
}

// run waits for children for ever, and restarts a daemon that has ended.
func (s *supervisor) run() {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			slog.Error("wait for children", "err", err)
			time.Sleep(time.Second)
		}
		for i := range s.daemons {
			if d := &s.daemons[i]; d.pid == pid {
				slog.Warn("daemon ended, starting it again", "daemon", d.name, "exit", status.ExitStatus(), "signal", status.Signal())
				time.Sleep(time.Second) // a daemon that ends at once must not use up a core
				s.exec(d)
			}
		}
	}
}
