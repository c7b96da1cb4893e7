package agent

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

// tableSize is how many descriptors the kernel's table of this process has room for.
func tableSize(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if size, ok := strings.CutPrefix(line, "FDSize:"); ok {
			n, err := strconv.Atoi(strings.TrimSpace(size))
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatal("no FDSize")
	return 0
}

func TestGrowDescriptorTable(t *testing.T) {
	want := 4 * tableSize(t)
	if has := resourcesOfProcess(); want > has.openFiles {
		t.Fatalf("%d files may be open, %d are needed", has.openFiles, want)
	}
	if err := growDescriptorTable(want); err != nil {
		t.Fatal(err)
	}
	if got := tableSize(t); got < want {
		t.Errorf("room for %d descriptors, want %d", got, want)
	}
	if err := growDescriptorTable(1); err != nil {
		t.Errorf("a small one: %v", err)
	}
	if err := growDescriptorTable(mostTable * 4); err != nil && !strings.Contains(err.Error(), "table of descriptors") {
		t.Errorf("%v does not say what failed", err)
	}
}
