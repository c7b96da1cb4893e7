// Package layout defines where everything of a lab is: its names, paths and
// addresses. It is pure. All names derive from the lab's name, so that a later
// process can find what is left of a lab that crashed.
package layout

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// DefaultName is the lab that commands use if none is named.
const DefaultName = "underlane-lab"

// RunDir is where labs keep their state. NetnsDir is where `ip netns` looks.
const (
	RunDir   = "/run"
	NetnsDir = "/run/netns"
	BPFFS    = "/sys/fs/bpf"
)

// Layout is one lab on this machine.
type Layout struct {
	Name    string // of the lab, and of its state directory under RunDir
	Cgroup2 string // mount point of cgroup v2
}

var validName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,60}[a-z0-9])?$`)

// New checks name and finds the cgroup v2 mount point in mounts, the text of
// /proc/mounts.
func New(name, mounts string) (Layout, error) {
	if !validName.MatchString(name) {
		return Layout{}, fmt.Errorf("lab name %q: want lower-case letters, digits and hyphens; its directory is %s/NAME", name, RunDir)
	}
	for line := range strings.Lines(mounts) {
		if f := strings.Fields(line); len(f) > 2 && f[2] == "cgroup2" {
			return Layout{Name: name, Cgroup2: f[1]}, nil
		}
	}
	return Layout{}, fmt.Errorf("cgroup v2 is not mounted: try `mount -t cgroup2 none /sys/fs/cgroup/unified`")
}

// Open is New for this machine.
func Open(name string) (Layout, error) {
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil {
		return Layout{}, fmt.Errorf("find the cgroup v2 mount: %w", err)
	}
	return New(name, string(mounts))
}

// StateDir is the lab's state directory.
func (l Layout) StateDir() string { return filepath.Join(RunDir, l.Name) }

// LockFile is locked by the running supervisor, which writes its pid into it.
func (l Layout) LockFile() string { return l.StateDir() + ".lock" }

// Socket is the supervisor's HTTP socket.
func (l Layout) Socket() string { return filepath.Join(l.StateDir(), "lab.sock") }

// Log is the supervisor's own log.
func (l Layout) Log() string { return filepath.Join(l.StateDir(), "lab.log") }

// Manifests is the directory that the lab writes and the controller watches.
func (l Layout) Manifests() string { return filepath.Join(l.StateDir(), "manifests") }

// ControllerDir is the controller's data directory.
func (l Layout) ControllerDir() string { return filepath.Join(l.StateDir(), "controller") }

// NodeDir holds the files of a node's agent: token, agent.sock, agent.log.
func (l Layout) NodeDir(node string) string { return filepath.Join(l.StateDir(), node) }

// AgentSocket is the socket of a node's agent.
func (l Layout) AgentSocket(node string) string { return filepath.Join(l.NodeDir(node), "agent.sock") }

// AgentLog is the log of a node's agent.
func (l Layout) AgentLog(node string) string { return filepath.Join(l.NodeDir(node), "agent.log") }

// ControllerLog is the controller's log.
func (l Layout) ControllerLog() string { return filepath.Join(l.StateDir(), "controller.log") }

// PodDir holds the files of a pod: hosts, resolv.conf, log.
func (l Layout) PodDir(namespace, name string) string {
	return filepath.Join(l.StateDir(), "pods", namespace+"_"+name)
}

// PodLog is the log of the pod's containers.
func (l Layout) PodLog(namespace, name string) string {
	return filepath.Join(l.PodDir(namespace, name), "log")
}

// CgroupRoot is the cgroup directory above all others of the lab.
func (l Layout) CgroupRoot() string { return filepath.Join(l.Cgroup2, l.Name) }

// NodeCgroup is the agent's --cgroup-root on a node.
func (l Layout) NodeCgroup(node string) string { return filepath.Join(l.CgroupRoot(), node) }

// AgentCgroup is where a node's agent runs.
func (l Layout) AgentCgroup(node string) string { return filepath.Join(l.NodeCgroup(node), "agent") }

// HostCgroup is where programs of the node itself run.
func (l Layout) HostCgroup(node string) string { return filepath.Join(l.NodeCgroup(node), "host") }

// ControllerCgroup is where the controller runs.
func (l Layout) ControllerCgroup() string { return filepath.Join(l.CgroupRoot(), "controller") }

// PodCgroup is where a pod's processes run. Its name has the pod's UID as the kubelet's
// names have it, by which an agent knows whose processes they are.
func (l Layout) PodCgroup(node, namespace, name, uid string) string {
	return filepath.Join(l.NodeCgroup(node), "pods", namespace+"_"+name+"_pod"+uid)
}

// PinRoot is the directory above the pins of all nodes.
func (l Layout) PinRoot() string { return filepath.Join(BPFFS, l.Name) }

// NodePins is the agent's --pin-root on a node.
func (l Layout) NodePins(node string) string { return filepath.Join(l.PinRoot(), node) }

// NetnsPrefix is the prefix of the names of this lab's network namespaces. No
// other lab's names begin with it, because lab names have no dot.
func (l Layout) NetnsPrefix() string {
	if l.Name == DefaultName {
		return "ul-"
	}
	return "ul." + l.Name + "."
}

// Netns is the path of a network namespace: "fabric", "controller" or a node.
func (l Layout) Netns(name string) string { return filepath.Join(NetnsDir, l.NetnsPrefix()+name) }

// PodNetns is the path of a pod's network namespace. A name that is too long for a
// file is shortened and made unique with a hash.
func (l Layout) PodNetns(namespace, name string) string {
	full := namespace + "_" + name // neither can contain an underscore
	if len(full) > 150 {
		sum := sha256.Sum256([]byte(full))
		full = full[:100] + "_" + hex.EncodeToString(sum[:6])
	}
	return l.Netns("pod-" + full)
}
