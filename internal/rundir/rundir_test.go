package rundir

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// childVariable makes the test binary a process that makes a directory, says which, and
// waits until it is killed.
const childVariable = "UNDERLANE_RUNDIR_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		dir, _, err := Make("test")
		if err != nil {
			panic(err)
		}
		os.Stdout.WriteString(dir + "\n")
		select {}
	}
	os.Exit(m.Run())
}

// TestKilled checks that the directory of a process stays while it runs, and that the next
// one removes it when it was killed.
func TestKilled(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 4096)
	n, err := out.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	dir := string(line[:n-1])
	if err := os.WriteFile(filepath.Join(dir, "large"), []byte("x"), 0o444); err != nil {
		t.Fatal(err)
	}
	all := filepath.Join(os.TempDir(), "underlane-run-test-*")
	sweep(all, 0)
	if _, err := os.Stat(dir); err != nil {
		t.Fatalf("of a process that runs: %v", err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	sweep(all, time.Hour)
	if _, err := os.Stat(dir); err != nil {
		t.Errorf("it is young, and another process may be about to lock it: %v", err)
	}
	sweep(all, 0)
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("of a process that was killed: got %v, want that it is gone", err)
	}
}

func TestRemove(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	dir, remove, err := Make("test")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	remove()
	if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "*")); len(left) > 0 {
		t.Errorf("got %v, want nothing left", left)
	}
}
