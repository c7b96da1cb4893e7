package command

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func script(t *testing.T, path string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\necho \"ran $1\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestProgramsThatTheNodeHas(t *testing.T) {
	root := t.TempDir()
	script(t, root+"/run/node/ctr")
	for _, argv := range [][]string{{"bpftool", "map"}, {"/run/node/ctr", "images"}} {
		got, err := carry(root, argv)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(argv, got); diff != "" {
			t.Error(diff)
		}
	}
	if _, err := carry(root, []string{root + "/none"}); err == nil || !strings.Contains(err.Error(), "the node has no "+root+"/none") {
		t.Errorf("got %v, want that there is no such program", err)
	}
}

// A checkout below /tmp has its programs where the node has another file system.
func TestProgramsThatTheNodeDoesNotSee(t *testing.T) {
	program := script(t, t.TempDir()+"/bin/democheck")
	t.Chdir(filepath.Dir(filepath.Dir(program)))
	for _, name := range []string{program, "bin/democheck"} {
		argv, err := carry(t.TempDir(), []string{name, "capture"})
		if err != nil {
			t.Fatal(err)
		}
		if argv[0] == name {
			t.Errorf("%s is run by its path, which the node does not have", name)
		}
		out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
		if diff := cmp.Diff("ran capture\n", string(out)); diff != "" || err != nil {
			t.Errorf("run %v for %s: %v %s", argv, name, err, diff)
		}
	}
}
