// Package podns finds the network namespace of a pod by its IP addresses, among the
// namespaces of the running processes. It needs no container runtime and no path
// convention of one. If the kubelet has named a process's cgroup after its pod, the
// name must match too: the address may belong to another pod by now, above all after
// the node was restarted.
package podns

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/underlane/underlane/pkg/cgroup"
	"github.com/underlane/underlane/pkg/redirect/netns"
	"golang.org/x/sys/unix"
)

// Finder finds namespaces. It caches the addresses of a namespace while a process is in
// it, so that a scan enters only new namespaces.
type Finder struct {
	proc   string
	cgroup string // "": all processes
	mu     sync.Mutex
	seen   map[uint64]known // by inode
}

type known struct {
	addrs []netip.Addr
}

// New returns a Finder that uses a proc file system, usually "/proc". It must be that
// of the host's PID namespace. If cgroup is not "", only processes below that directory
// count: where several nodes share a kernel, a pod of another node may have the same
// addresses.
func New(proc, cgroup string) *Finder {
	return &Finder{proc: proc, cgroup: cgroup, seen: make(map[uint64]known)}
}

// Find opens the namespace that has all of addrs and is not known to belong to another
// pod than the one with this UID. A namespace that a process of the pod only visits is
// no match, because it does not have the addresses. The host's own namespace never
// matches.
func (f *Finder) Find(uid string, addrs []netip.Addr) (*netns.NS, error) {
	ns, _, err := f.find(uid, addrs)
	return ns, err
}

// Processes returns the ids of the processes in the namespace that Find finds.
func (f *Finder) Processes(uid string, addrs []netip.Addr) ([]string, error) {
	ns, pids, err := f.find(uid, addrs)
	if err != nil {
		return nil, err
	}
	return pids, ns.Close()
}

func (f *Finder) find(uid string, addrs []netip.Addr) (*netns.NS, []string, error) {
	if len(addrs) == 0 {
		return nil, nil, fmt.Errorf("find pod's network namespace: the pod has no IP address yet")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	namespaces, err := f.scan()
	if err != nil {
		return nil, nil, err
	}
	other := false
	// The cache may be older than the addresses: if it has no match, read again.
	for _, fresh := range []bool{false, true} {
		for inode, pids := range namespaces {
			path := f.path(pids[0])
			have, ok := f.addresses(inode, path, fresh)
			if ok && !fresh && netns.Owns(have, addrs) {
				have, ok = f.addresses(inode, path, true) // another namespace may have the inode by now
			}
			if ok && netns.Owns(have, addrs) {
				if !f.mayBe(pids, uid) {
					other = true
					continue
				}
				ns, err := netns.Open(path)
				if err != nil || ns.Inode() != inode {
					continue // its process has ended, and another process has the pid
				}
				return ns, pids, nil
			}
		}
	}
	if other {
		return nil, nil, fmt.Errorf("find pod's network namespace: %v is another pod's by now", addrs)
	}
	return nil, nil, fmt.Errorf("find pod's network namespace: no process is in a namespace that owns %v: is the agent in the host's PID namespace, and the pod running?", addrs)
}

func (f *Finder) path(pid string) string { return filepath.Join(f.proc, pid, "ns/net") }

// mayBe reports whether the processes may belong to the pod with this UID, by the names
// of their cgroups. It is true if one name has the UID, because processes of other pods
// may have entered the namespace, and if no name has a pod's UID, as with static pods.
func (f *Finder) mayBe(pids []string, uid string) bool {
	others := false
	for _, pid := range pids {
		text, _ := os.ReadFile(filepath.Join(f.proc, pid, "cgroup"))
		uids := cgroup.PodUIDs(string(text))
		if slices.Contains(uids, uid) {
			return true
		}
		others = others || len(uids) > 0
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

// processes returns the ids of the processes that count: see New.
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
			return nil // the cgroup was removed meanwhile
		}
		if err != nil || !e.IsDir() {
			return err
		}
		list, _ := os.ReadFile(filepath.Join(path, "cgroup.procs")) // cannot be read in a threaded cgroup
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
