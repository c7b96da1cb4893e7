package agent

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/underlane/underlane/pkg/agent/ownpages"
	"golang.org/x/sys/unix"
)

// resources are what the agent's process may have.
type resources struct {
	openFiles int // RLIMIT_NOFILE
	memory    int // bytes
}

const (
	// Reserve of descriptors for the agent itself: maps, links, listeners, its ports, and
	// probes.
	reservePart  = 10 // a tenth
	reserveLeast = 128
	// connMemory is about what a connection takes that does nothing, in bytes, with what
	// serves it, for each of its descriptors.
	connMemory = 12 << 10
)

// descriptors is how many of them connections of pods may have: what is left of
// RLIMIT_NOFILE, but not more than what takes half of the memory.
func (r resources) descriptors() int {
	reserve := min(max(r.openFiles/reservePart, reserveLeast), r.openFiles/2)
	return max(1, min(r.openFiles-reserve, r.memory/2/connMemory))
}

// buffers is how many bytes of connections may wait: a quarter of the memory.
func (r resources) buffers() int { return max(1, r.memory/4) }

// resourcesOfProcess reads what this process may have. The Go runtime has raised
// RLIMIT_NOFILE to its hard limit. Memory is bounded by GOMEMLIMIT, by the process's
// cgroups, and by what the machine has.
func resourcesOfProcess() resources {
	r := resources{openFiles: 1024, memory: math.MaxInt}
	var files unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &files) == nil {
		r.openFiles = int(min(files.Cur, math.MaxInt32))
	}
	var machine unix.Sysinfo_t
	if unix.Sysinfo(&machine) == nil {
		r.memory = int(min(uint64(machine.Totalram)*uint64(machine.Unit), math.MaxInt))
	}
	r.memory = min(r.memory, int(debug.SetMemoryLimit(-1)))
	own, _ := os.ReadFile("/proc/self/cgroup")
	r.memory = min(r.memory, cgroupMemory("/sys/fs/cgroup", string(own)))
	return r
}

// startTime is how long an agent counts as starting: programs, pods and certificates.
const startTime = 30 * time.Second

// returnMemory gives back what only the start needed, once: of 13 MB that loading the programs
// allocates, 2 stay in use. The runtime would keep most of the rest, because a heap that is so
// small is not collected and returned before it has doubled. Of the program's own pages, 22 MB, an
// agent without traffic touches 12 MB again, and one with traffic 18.
func (a *components) returnMemory(ctx context.Context) error {
	select {
	case <-time.After(startTime):
	case <-ctx.Done():
		return nil
	}
	debug.FreeOSMemory()
	if _, err := ownpages.Drop(); err != nil {
		a.log.Debug("the agent keeps pages that only its start needed", "cause", err)
	}
	return nil
}

// cgroupMemory is the least memory.max of a process's cgroup of version 2 and of those
// above it. own is the process's /proc/PID/cgroup. It is math.MaxInt if there is no limit.
func cgroupMemory(root, own string) int {
	least := math.MaxInt
	for line := range strings.Lines(own) {
		path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		if !ok {
			continue
		}
		for ; ; path = filepath.Dir(path) {
			text, err := os.ReadFile(filepath.Join(root, path, "memory.max"))
			if n, err2 := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && err2 == nil {
				least = min(least, n)
			}
			if path == "/" || path == "." {
				break
			}
		}
	}
	return least
}
