package redirect

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"
	"github.com/underlane/underlane/bpf"
	"github.com/underlane/underlane/pkg/redirect/netns"
	"golang.org/x/sys/unix"
)

// Probe tests one thing that the kernel or the node must have.
type Probe struct {
	Name string // true when Run succeeds
	Run  func() error
	Hint string
}

// KernelProbes returns a probe for each feature of the kernel that Load needs. After a
// Load that failed they say which one is missing.
func KernelProbes(cgroupRoot, pinRoot string) []Probe {
	const newer = "Underlane needs Linux 5.15 or later"
	return []Probe{
		{"kernel has BTF type information", probeBTF, "boot a kernel with CONFIG_DEBUG_INFO_BTF=y"},
		{"the agent may load programs (CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON)", probePrivilege, "run as root, or give the container these capabilities"},
		{"kernel has programs of type cgroup_sock_addr", programType(ebpf.CGroupSockAddr), newer},
		{"kernel has programs of type sock_ops", programType(ebpf.SockOps), newer},
		{"kernel has programs of type sk_lookup", programType(ebpf.SkLookup), newer},
		{"kernel has maps of type sockhash", mapType(ebpf.SockHash), newer},
		{"kernel has maps of type sk_storage", mapType(ebpf.SkStorage), newer},
		{"kernel has maps of type ringbuf", mapType(ebpf.RingBuf), newer},
		{"sockets tell their network namespace (SO_NETNS_COOKIE)", probeNetnsCookie, newer},
		{"connect hooks can name the network namespace (bpf_get_netns_cookie)", helper(ebpf.CGroupSockAddr, asm.FnGetNetnsCookie), newer},
		{"sockops can name the network namespace (bpf_get_netns_cookie)", helper(ebpf.SockOps, asm.FnGetNetnsCookie), newer},
		{"sockops can keep data with a socket (bpf_sk_storage_get)", helper(ebpf.SockOps, asm.FnSkStorageGet), newer},
		{"sk_lookup can assign a socket (bpf_sk_assign)", helper(ebpf.SkLookup, asm.FnSkAssign), newer},
		{"a cgroup v2 file system is mounted", func() error { return probeCgroup(cgroupRoot) }, "mount -t cgroup2 none /sys/fs/cgroup/unified, or give --cgroup-root"},
		{"a bpf file system is mounted for the pins", func() error { return probeBPFFS(pinRoot) }, "mount -t bpf bpf /sys/fs/bpf"},
	}
}

// OptionalProbes returns a probe for each feature of the kernel without which the agent runs
// as well. The hint says what it does without then.
func OptionalProbes() []Probe {
	return []Probe{
		{"sockets can be destroyed (INET_DIAG_DESTROY)", netns.CanDestroy, "no connection takes the kernel path: boot a kernel with CONFIG_INET_DIAG_DESTROY=y"},
		{"kernel has programs of type cgroup_skb", programType(ebpf.CGroupSKB), "pods cannot be observed, and names from DNS are not seen"},
	}
}

// probeNetnsCookie reads the cookie of the process's own namespace, as Load does.
func probeNetnsCookie() error {
	ns, err := netns.Open("/proc/self/ns/net")
	if err != nil {
		return err
	}
	return ns.Close()
}

func probeBTF() error {
	if _, err := btf.LoadKernelSpec(); err != nil {
		return fmt.Errorf("read /sys/kernel/btf/vmlinux: %w", err)
	}
	return nil
}

func probePrivilege() error {
	err := features.HaveProgramType(ebpf.CGroupSockAddr)
	if errors.Is(err, unix.EPERM) {
		return err
	}
	return nil
}

func programType(t ebpf.ProgramType) func() error {
	return func() error { return features.HaveProgramType(t) }
}

func mapType(t ebpf.MapType) func() error {
	return func() error { return features.HaveMapType(t) }
}

func helper(t ebpf.ProgramType, fn asm.BuiltinFunc) func() error {
	return func() error { return features.HaveProgramHelper(t, fn) }
}

func probeCgroup(root string) error {
	if root == "" || root == AutoCgroup {
		_, err := findHostCgroup("/proc") // the agent mounts cgroup v2 if the host has not
		return err
	}
	return onFileSystem(root, unix.CGROUP2_SUPER_MAGIC, "cgroup v2")
}

func probeBPFFS(pinRoot string) error {
	dir := pinRoot
	for {
		if _, err := os.Stat(dir); err == nil || dir == "/" {
			return onFileSystem(dir, unix.BPF_FS_MAGIC, "bpf")
		}
		dir = filepath.Dir(dir)
	}
}

func onFileSystem(path string, magic int64, name string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if int64(st.Type) != magic {
		return fmt.Errorf("%s is not on a %s file system", path, name)
	}
	return nil
}

// PinProbes returns probes that test whether the pins of an agent exist and work.
func PinProbes(pinRoot string) []Probe {
	const hint = "start the agent: it makes the pins; its log says why it could not"
	probes := []Probe{{"pin directory exists", func() error { _, err := os.Stat(pinRoot); return err }, hint}}
	spec, err := bpf.LoadUnderlane()
	if err != nil {
		return append(probes, Probe{"programs are in this binary", func() error { return err }, "this build is broken"})
	}
	for _, m := range spec.Maps {
		if m.Pinning == ebpf.PinByName {
			probes = append(probes, Probe{"map " + m.Name + " is pinned", func() error { return probeMap(filepath.Join(pinRoot, m.Name)) }, hint})
		}
	}
	for _, name := range cgroupLinks {
		probes = append(probes, Probe{"program " + name + " is attached", func() error { return probeLink(filepath.Join(pinRoot, linksDir, name)) }, hint})
	}
	return probes
}

func probeMap(path string) error {
	m, err := ebpf.LoadPinnedMap(path, &ebpf.LoadPinOptions{ReadOnly: true})
	if err != nil {
		return err
	}
	return m.Close()
}

func probeLink(path string) error {
	l, err := link.LoadPinnedLink(path, nil)
	if err != nil {
		return err
	}
	defer l.Close()
	info, err := l.Info()
	if err != nil {
		return err
	}
	if c := info.Cgroup(); c != nil && c.CgroupId == 0 {
		return errors.New("the cgroup it was attached to is gone")
	}
	return nil
}

// Pins lists what is pinned under root, relative to it.
func Pins(root string) ([]string, error) {
	var list []string
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		name, err := filepath.Rel(root, path)
		list = append(list, name)
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return list, err
}
