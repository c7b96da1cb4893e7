package scriptstest

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// machine is an apt of its own: package lists, cache and dpkg's status are in a
// directory, and its locks with them. It knows no package.
func machine(t *testing.T) (dir string) {
	t.Helper()
	if _, err := exec.LookPath("apt-get"); err != nil {
		t.Skip("there is no apt-get: scripts/deps.sh installs nothing here either")
	}
	dir = t.TempDir()
	for _, d := range []string{
		"var/lib/apt/lists/partial", "var/cache/apt/archives/partial", "var/lib/dpkg",
		"etc/apt/apt.conf.d", "etc/apt/preferences.d", "etc/apt/sources.list.d", "etc/apt/trusted.gpg.d",
	} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	config := `Dir "` + dir + `"; Dir::State::status "` + dir + `/var/lib/dpkg/status";`
	for path, text := range map[string]string{"apt.conf": config, "var/lib/dpkg/status": ""} {
		if err := os.WriteFile(filepath.Join(dir, path), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("APT_CONFIG", filepath.Join(dir, "apt.conf"))
	return dir
}

// hold takes a lock as apt does, by fcntl, until it is released.
func hold(t *testing.T, path string) (release func()) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o640)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}); err != nil {
		t.Fatalf("lock %s: %v", path, err)
	}
	t.Cleanup(func() { f.Close() })
	return func() { f.Close() }
}

// locks are what apt-get's two commands take.
var locks = map[string]struct {
	args []string
	lock string
	last string // the message at the end of a run that had the lock
}{
	"update":  {[]string{"update", "-qq"}, "var/lib/apt/lists/lock", ""},
	"install": {[]string{"install", "-y", "-qq", "underlane-none"}, "var/lib/dpkg/lock-frontend", "E: Unable to locate package underlane-none\n"},
}

func TestAptWaitsForItsLock(t *testing.T) {
	for name, tc := range locks {
		t.Run(name, func(t *testing.T) {
			release := hold(t, filepath.Join(machine(t), tc.lock))
			cmd := exec.CommandContext(t.Context(), "../../scripts/apt.sh", tc.args...)
			stderr, err := cmd.StderrPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			out := bufio.NewReader(stderr)
			line, err := out.ReadString('\n')
			if want := "waiting up to 300 s"; err != nil || !strings.Contains(line, want) || !strings.Contains(line, tc.lock) {
				t.Errorf("got %q, %v; want the lock and %q", line, err, want)
			}
			release()
			rest, err := io.ReadAll(out)
			if err != nil || string(rest) != tc.last {
				t.Errorf("after the lock was released: got %q, %v; want %q", rest, err, tc.last)
			}
			if err := cmd.Wait(); (err == nil) != (tc.last == "") {
				t.Errorf("got %v at the end, with %q", err, tc.last)
			}
		})
	}
}

func TestAptWaitsNotForEver(t *testing.T) {
	for name, tc := range locks {
		t.Run(name, func(t *testing.T) {
			hold(t, filepath.Join(machine(t), tc.lock))
			cmd := exec.CommandContext(t.Context(), "../../scripts/apt.sh", tc.args...)
			cmd.Env = append(os.Environ(), "APT_LOCK_WAIT=1")
			out, err := cmd.CombinedOutput()
			if want := "still so after 1 s"; err == nil || !strings.Contains(string(out), want) {
				t.Errorf("got %v and\n%swant a failure that says %q", err, out, want)
			}
		})
	}
}
