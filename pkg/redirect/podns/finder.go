// Package podns finds the network namespace of a pod by its IP addresses, among
// the namespaces that processes are in. It needs no container runtime and no path
// convention of one. Where the kubelet has named a process's cgroup after its pod
// that is minded too: an address may be another pod's by now, above all after the
// node was started anew.
package podns

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/underlane/underlane/pkg/redirect/netns"
	"golang.org/x/sys/unix"
)

// Finder finds namespaces. What it learned of a namespace it keeps while some
// process is in it, so that a scan looks only into new ones.
type Finder struct {
	proc   string
	cgroup string // "": all processes
	mu     sync.Mutex
	seen   map[uint64]known // by inode
}

type known struct {
	addrs []netip.Addr
}

// New returns a Finder over a proc file system, usually "/proc" (of the host:
// in a container it must be in the host's PID namespace). Where cgroup is given
// only processes below that directory count: where several nodes share a
// kernel, another's pod may have the same addresses.
func New(proc, cgroup string) *Finder {
	return &Finder{proc: proc, cgroup: cgroup, seen: make(map[uint64]known)}
}

// Find opens the namespace that owns all of addrs and is not known to be another
// pod's than that with this UID. A namespace that merely
// some process of the pod passes through is no match: it does not own the
// addresses. The host's own namespace never matches.
func (f *Finder) Find(uid string, addrs []netip.Addr) (*netns.NS, error) {
	if len(addrs) == 0 {
		return nil, fmt.Errorf("find pod's network namespace: the pod has no IP address yet")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	namespaces, err := f.scan()
	if err != nil {
		return nil, err
	}
	other := false
	// A cached answer may be older than the addresses: look twice.
	for _, fresh := range []bool{false, true} {
		for inode, pids := range namespaces {
			path := f.path(pids[0])
			have, ok := f.addresses(inode, path, fresh)
			if ok && !fresh && netns.Owns(have, addrs) {
				have, ok = f.addresses(inode, path, true) // the inode may be another's by now
			}
			if ok && netns.Owns(have, addrs) {
				if !f.mayBe(pids, uid) {
					other = true
					continue
				}
				ns, err := netns.Open(path)
				if err != nil || ns.Inode() != inode {
					continue // its process has gone and the pid is another's
				}
				return ns, nil
			}
		}
	}
	if other {
		return nil, fmt.Errorf("find pod's network namespace: %v is another pod's by now", addrs)
	}
	return nil, fmt.Errorf("find pod's network namespace: no process is in a namespace that owns %v: is the agent in the host's PID namespace, and the pod running?", addrs)
}

func (f *Finder) path(pid string) string { return filepath.Join(f.proc, pid, "ns/net") }

// podCgroup is how the kubelet names a pod's cgroup, by either of its drivers. Those
// of static pods are named otherwise.
var podCgroup = regexp.MustCompile(`pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12})`)

// mayBe reports whether the processes are the pod's with this UID, as far as their
// cgroups tell. Others may have entered its namespace.
func (f *Finder) mayBe(pids []string, uid string) bool {
	others := false
	for _, pid := range pids {
		text, _ := os.ReadFile(filepath.Join(f.proc, pid, "cgroup"))
		for _, found := range podCgroup.FindAllSubmatch(text, -1) {
			if strings.ReplaceAll(string(found[1]), "_", "-") == uid {
				return true
			}
			others = true
		}
	}
	return !others
}

// scan returns the processes in each namespace, by inode.
func (f *Finder) scan() (map[uint64][]string, error) {
	pids, err := f.processes()
	if err != nil {
		return nil, fmt.Errorf("find pod's network namespace: %w", err)
	}
	namespaces := make(map[uint64][]string)
	var host unix.Stat_t
	if err := unix.Stat(filepath.Join(f.proc, "self/ns/net"), &host); err != nil {
		return nil, fmt.Errorf("find pod's network namespace: %w", err)
	}
	for _, pid := range pids {
		var st unix.Stat_t
		if unix.Stat(f.path(pid), &st) != nil || st.Ino == host.Ino {
			continue
		}
		namespaces[st.Ino] = append(namespaces[st.Ino], pid)
	}
	for inode := range f.seen {
		if _, ok := namespaces[inode]; !ok {
			delete(f.seen, inode)
		}
	}
	return namespaces, nil
}

// processes are the ids of those that count.
func (f *Finder) processes() (pids []string, err error) {
	if f.cgroup == "" {
		entries, err := os.ReadDir(f.proc)
		for _, e := range entries {
			if _, err := strconv.Atoi(e.Name()); err == nil {
				pids = append(pids, e.Name())
			}
		}
		return pids, err
	}
	err = filepath.WalkDir(f.cgroup, func(path string, e fs.DirEntry, err error) error {
		if path != f.cgroup && errors.Is(err, fs.ErrNotExist) {
			return nil // a cgroup that went just now
		}
		if err != nil || !e.IsDir() {
			return err
		}
		list, _ := os.ReadFile(filepath.Join(path, "cgroup.procs")) // of a threaded cgroup it cannot be read
		pids = append(pids, strings.Fields(string(list))...)
		return nil
	})
	return pids, err
}

func (f *Finder) addresses(inode uint64, path string, fresh bool) ([]netip.Addr, bool) {
	if k, ok := f.seen[inode]; ok && !fresh {
		return k.addrs, true
	}
	ns, err := netns.Open(path)
	if err != nil {
		return nil, false
	}
	defer ns.Close()
	if ns.Inode() != inode {
		return nil, false
	}
	addrs, err := ns.Addresses()
	if err != nil {
		return nil, false
	}
	f.seen[inode] = known{addrs: addrs}
	return addrs, true
}
