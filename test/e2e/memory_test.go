package e2e

import (
	"fmt"
	"os"
	"path"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/underlane/underlane/test/lab"
)

// ownAtStart bounds what is resident of an agent that has just started, in bytes, without the
// pages of its program, which the kernel drops when it needs memory.
const ownAtStart = 11 << 20

// TestMemoryAtStart: an agent that begins gives back what its start needed, and maps little of
// its ring buffers. `go test -v -run TestMemoryAtStart ./test/e2e` shows the parts.
func TestMemoryAtStart(t *testing.T) {
	t.Parallel()
	l := lab.Up(t, lab.Options{Nodes: 1}, manifests(clientPod("idle", node1)))
	waitEnrolled(t, l, "default/idle")
	l.Eventually(patience, func() error {
		parts, err := resident(nodeOf(t, l, node1).Agent.Pid)
		if err != nil {
			return err
		}
		sum, own := 0, 0
		for name, n := range parts {
			sum += n
			if name != "agent" {
				own += n
			}
		}
		if parts["anon_inode:bpf-map"] == 0 {
			return fmt.Errorf("the agent reads no ring buffer yet: %v", parts)
		}
		if own > ownAtStart {
			return fmt.Errorf("%d KiB are resident beside the program, want %d at most: %v", own>>10, ownAtStart>>10, parts)
		}
		t.Logf("%d KiB are resident, of which %d are the program, %d the ring buffers, and %d the rest", sum>>10,
			parts["agent"]>>10, parts["anon_inode:bpf-map"]>>10, (own-parts["anon_inode:bpf-map"])>>10)
		return nil
	})
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
