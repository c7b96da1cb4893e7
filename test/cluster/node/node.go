// Package node makes a Kubernetes node from namespaces: a named network namespace, and
// an init process in its own mount, UTS, IPC, pid and cgroup namespaces. The init
// process runs containerd, the kubelet and kube-proxy.
package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/underlane/underlane/test/cluster/kernel"
	"github.com/underlane/underlane/test/cluster/layout"
	"github.com/underlane/underlane/test/cluster/pki"
)

// InitCommand is the hidden subcommand that runs a node's init process. Its argument is
// an Init as JSON.
const InitCommand = "node-init"

// Binaries are the directories of the programs on a node.
type Binaries struct{ Kubernetes, Containerd string }

// Start makes a node and starts it. Nothing of an earlier node may be left: see Remove.
func Start(c layout.Cluster, n layout.Node, bin Binaries) error {
	hs, err := kernel.Hierarchies()
	if err != nil {
		return err
	}
	seen, err := view(hs, c.CgroupOf(n))
	if err != nil {
		return fmt.Errorf("%s: %w", n.Name(), err)
	}
	if err := writeConfig(c, n, bare(seen)); err != nil {
		return fmt.Errorf("configure %s: %w", n.Name(), err)
	}
	if err := connect(c, n); err != nil {
		return fmt.Errorf("connect %s: %w", n.Name(), err)
	}
	args := Init{Node: n, Spec: c.Spec, Dir: c.NodeFile(n), Binaries: bin}
	for _, h := range hs {
		dir, err := h.MakeCgroup(c.Cgroup() + "/" + n.Name())
		if err != nil {
			return err
		}
		args.Cgroups = append(args.Cgroups, dir)
		if h.V2 {
			args.Unified = dir
		}
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	proc, err := kernel.Process{
		Argv:       []string{self, InitCommand, args.encode()},
		Netns:      c.Netns(n.Name()),
		Cgroup:     args.Unified,
		Log:        c.NodeFile(n, "log", "init.log"),
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC | syscall.CLONE_NEWPID,
	}.Start()
	if err != nil {
		return err
	}
	return proc.Release()
}

// Remove removes a node's processes, cgroups and network at once, like the loss of a
// machine. Its disk stays. It is no error if something does not exist.
func Remove(c layout.Cluster, n layout.Node) error {
	return errors.Join(
		kernel.RemoveCgroup(c.Cgroup()+"/"+n.Name()),
		disconnect(c, n),
	)
}

// Pid returns the pid of the node's init process, 0 if the node is not up.
func Pid(c layout.Cluster, n layout.Node) (int, error) {
	unified, err := kernel.Unified()
	if err != nil {
		return 0, err
	}
	root := filepath.Join(unified.Mount, c.Cgroup(), n.Name())
	return kernel.InitOf(append(kernel.CgroupProcs(root), kernel.CgroupProcs(filepath.Join(root, initCgroup))...)), nil
}

// WaitRuntime waits until the node's containerd accepts requests.
func WaitRuntime(ctx context.Context, c layout.Cluster, n layout.Node) error {
	for ctx.Err() == nil {
		pid, err := Pid(c, n)
		if err != nil {
			return err
		}
		if pid == 0 {
			return fmt.Errorf("%s died: see %s", n.Name(), c.NodeFile(n, "log", "init.log"))
		}
		if _, err := os.Stat(fmt.Sprintf("/proc/%d/root%s", pid, containerdSocket)); err == nil {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("containerd of %s is not up (see %s): %w", n.Name(), c.NodeFile(n, "log"), ctx.Err())
}

// writeConfig prepares the node's disk: its configuration, and the directories that
// become its /var/lib and /var/log.
func writeConfig(c layout.Cluster, n layout.Node, bare bool) error {
	for _, dir := range []string{"conf/cni", "lib", "log", "etc/upper", "etc/work", "opt/upper", "opt/work"} {
		if err := os.MkdirAll(c.NodeFile(n, dir), 0o755); err != nil {
			return err
		}
	}
	files := map[string]string{
		"containerd.toml":      containerdConfig(bare),
		"kubelet.yaml":         kubeletConfig(n, bare),
		limitlessFile:          limitless,
		"cni/10-pods.conflist": cniConfig(c.PodCIDRs(n)),
	}
	for _, name := range []string{pki.CA + ".crt", n.Name() + ".crt", n.Name() + ".key", n.Name() + ".kubeconfig", "kube-proxy.kubeconfig"} {
		text, err := os.ReadFile(c.File("pki", name))
		if err != nil {
			return err
		}
		files[name] = string(text)
	}
	for name, text := range files {
		if err := os.WriteFile(c.NodeFile(n, "conf", name), []byte(text), 0o700); err != nil {
			return err
		}
	}
	return nil
}
