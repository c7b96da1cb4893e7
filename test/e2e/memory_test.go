package e2e

import (
	"fmt"
	"os"
	"path"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/underlane/underlane/test/lab"
)

// What may be resident of an agent without traffic, in bytes.
const (
	atStart = 25 << 20 // with a pod
	idle    = 60 << 20 // with idlePods
	// ownAtStart is without the pages of the program, which the kernel drops when it needs
	// memory.
	ownAtStart = 11 << 20
	idlePods   = 30
)

// TestMemoryAtStart: an agent that begins gives back what its start needed, and maps little of
// its ring buffers. `go test -v -run TestMemoryAtStart ./test/e2e` shows the parts.
func TestMemoryAtStart(t *testing.T) {
	t.Parallel()
	l := lab.Up(t, lab.Options{Nodes: 1}, manifests(clientPod("idle", node1)))
	waitEnrolled(t, l, "default/idle")
	waitResident(t, l, atStart, ownAtStart)
}

// TestMemoryOfIdlePods: thirty pods in the mesh that do nothing.
func TestMemoryOfIdlePods(t *testing.T) {
	t.Parallel()
	var pods []podSpec
	var names []string
	for i := range idlePods {
		name := fmt.Sprintf("idle-%d", i)
		pods, names = append(pods, clientPod(name, node1)), append(names, "default/"+name)
	}
	l := lab.Up(t, lab.Options{Nodes: 1}, manifests(pods...))
	waitEnrolled(t, l, names...)
	waitResident(t, l, idle, idle)
}

// settled is how long an agent without traffic has to touch again what it needs.
const settled = 15 * time.Second

// waitResident waits until no more of node1's agent is resident than may be, in bytes, and not
// more beside its program than own. It must stay so.
func waitResident(t *testing.T, l *lab.Lab, all, own int) {
	t.Helper()
	judge := func() error {
		parts, err := resident(nodeOf(t, l, node1).Agent.Pid)
		if err != nil {
			return err
		}
		sum := 0
		for _, n := range parts {
			sum += n
		}
		program, rings := parts["agent"], parts["anon_inode:bpf-map"]
		if rings == 0 {
			return fmt.Errorf("the agent reads no ring buffer yet: %v", parts)
		}
		if sum > all || sum-program > own {
			return fmt.Errorf("%d KiB are resident, and %d beside the program, want %d and %d at most: %v",
				sum>>10, (sum-program)>>10, all>>10, own>>10, parts)
		}
		t.Logf("%d KiB are resident, of which %d are the program, %d the ring buffers, and %d the rest", sum>>10,
			program>>10, rings>>10, (sum-program-rings)>>10)
		return nil
	}
	l.Eventually(patience, judge)
	time.Sleep(settled)
	if err := judge(); err != nil {
		t.Errorf("%v later: %v", settled, err)
	}
}

// mapping is the first line of a mapping in /proc/PID/smaps.
var mapping = regexp.MustCompile(`^[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \S+ *(.*)$`)

// resident returns how much of a process's memory is resident, in bytes, by the base name of
// what is mapped.
func resident(pid int) (map[string]int, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps", pid))
	if err != nil {
		return nil, err
	}
	parts, name := map[string]int{}, ""
	for line := range strings.Lines(string(text)) {
		if m := mapping.FindStringSubmatch(strings.TrimSuffix(line, "\n")); m != nil {
			name = path.Base(m[1])
		} else if rest, ok := strings.CutPrefix(line, "Rss:"); ok {
			kib, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(rest), " kB"))
			if err != nil {
				return nil, fmt.Errorf("smaps: %w", err)
			}
			parts[name] += kib << 10
		}
	}
	return parts, nil
}
