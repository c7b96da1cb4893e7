package scriptstest

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// leftIn lists a directory.
func leftIn(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// inTmp is scripts/tmp.sh with a shell's command.
func inTmp(t *testing.T, base, command string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "../../scripts/tmp.sh", "sh", "-c", command)
	cmd.Env = append(os.Environ(), "TMPDIR="+base)
	cmd.Stderr = t.Output()
	return cmd
}

// TestTmp checks that what a command leaves in TMPDIR goes with it, and that its status stays.
func TestTmp(t *testing.T) {
	base := t.TempDir()
	out, err := inTmp(t, base, `echo "$TMPDIR"; mkdir -m 0555 "$TMPDIR/left"; exit 7`).Output()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 7 {
		t.Errorf("got %v, want the status 7", err)
	}
	again, _ := inTmp(t, base, `echo "$TMPDIR"`).Output()
	if dir := strings.TrimSpace(string(out)); filepath.Dir(dir) != base || string(again) != string(out) {
		t.Errorf("TMPDIR was %q, then %q; want the same directory in %s", out, again, base)
	}
	if left := leftIn(t, base); len(left) > 0 {
		t.Errorf("got %v, want nothing left", left)
	}
}

// TestTmpOfKilled checks that a run removes what one has left that was killed, and nothing of
// one that still runs.
func TestTmpOfKilled(t *testing.T) {
	base := t.TempDir()
	start := func() (cmd *exec.Cmd, dir string) {
		cmd = inTmp(t, base, `touch "$TMPDIR/file"; echo "$TMPDIR"; exec cat`)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		dir, err = bufio.NewReader(out).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { in.Close(); _ = cmd.Process.Kill(); _ = cmd.Wait() })
		return cmd, strings.TrimSpace(dir)
	}
	exists := func(dir string) bool { _, err := os.Stat(filepath.Join(dir, "file")); return err == nil }
	first, one := start()
	second, two := start()
	if one == two || !exists(one) || !exists(two) {
		t.Fatalf("two runs at once have %s and %s, and files in them: %v, %v", one, two, exists(one), exists(two))
	}
	_ = second.Process.Kill()
	_, _ = second.Process.Wait()
	if !exists(two) {
		t.Fatal("the killed script has removed its directory: this test tests nothing")
	}
	_ = first.Process.Kill()
	_, _ = first.Process.Wait()
	if err := inTmp(t, base, `test ! -e "$TMPDIR/file"`).Run(); err != nil {
		t.Errorf("the next run: %v", err)
	}
	if left := leftIn(t, base); len(left) > 0 {
		t.Errorf("got %v, want nothing left", left)
	}
}
