package agent

import (
	"math"
	"os"
	"path/filepath"
	"testing"
)

// TestBudgets: what pods may have leaves a reserve, and fits into the memory.
func TestBudgets(t *testing.T) {
	for _, test := range []struct {
		has                  resources
		descriptors, buffers int
	}{
		{resources{openFiles: 20_000, memory: 24 << 30}, 18_000, 6 << 30},
		{resources{openFiles: 1 << 20, memory: 2 << 30}, 1 << 30 / connMemory, 512 << 20},
		{resources{openFiles: 1024, memory: math.MaxInt}, 1024 - reserveLeast, math.MaxInt / 4},
		{resources{openFiles: 100, memory: 1 << 30}, 50, 256 << 20},
	} {
		if d, b := test.has.descriptors(), test.has.buffers(); d != test.descriptors || b != test.buffers {
			t.Errorf("%+v: %d descriptors and %d bytes, want %d and %d", test.has, d, b, test.descriptors, test.buffers)
		}
	}
	if has := resourcesOfProcess(); has.openFiles < 64 || has.memory < 64<<20 || has.memory == math.MaxInt {
		t.Errorf("this process: got %+v, want what it has", has)
	}
}

// TestCgroupMemory: the least limit of a cgroup and those above it counts.
func TestCgroupMemory(t *testing.T) {
	root := t.TempDir()
	for path, text := range map[string]string{"a": "300\n", "a/b": "max\n", "a/b/c": "500\n", "d": "max\n"} {
		if err := os.MkdirAll(filepath.Join(root, path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, path, "memory.max"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for own, want := range map[string]int{
		"0::/a/b/c\n": 300, "0::/a\n": 300, "1:name=x:/a\n0::/d\n": math.MaxInt, "": math.MaxInt, "0::/\n": math.MaxInt,
	} {
		if got := cgroupMemory(root, own); got != want {
			t.Errorf("%q: got %d, want %d", own, got, want)
		}
	}
}
