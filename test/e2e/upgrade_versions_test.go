package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/test/lab"
)

// released are the versions before this one, and their commits. Upgrades are tested from
// the last of them.
var released = []struct{ version, commit string }{
	{"v0.1.0", "092718847636ce0c6c701492fd0bd2ed3d5f26df"},
}

// oldBin returns a directory with the agent and the controller of the release before. They
// are built from its commit once, into the user's cache.
func oldBin(t *testing.T) string {
	t.Helper()
	last := released[len(released)-1]
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "underlane/releases")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	// The commit is in the name: what a version stands for may change before it is out.
	bin := filepath.Join(dir, last.version+"-"+last.commit[:12])
	lock, err := os.OpenFile(bin+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(bin); err == nil {
		return bin
	} else if !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	src := t.TempDir()
	unpack := exec.Command("sh", "-c", `git archive "$1" | tar -xf - -C "$2" && test -e "$2/go.mod"`, "-", last.commit, src)
	unpack.Dir = "../.."
	if out, err := unpack.CombinedOutput(); err != nil {
		t.Fatalf("the source of %s, commit %s: %v: %s: is this a shallow clone? git fetch --unshallow", last.version, last.commit, err, out)
	}
	made, err := os.MkdirTemp(dir, "making-")
	if err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false",
		"-ldflags=-X github.com/underlane/underlane/internal/version.Version="+last.version, "-o", made+"/", "./cmd/agent", "./cmd/controller")
	build.Dir = src
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		os.RemoveAll(made)
		t.Fatalf("build %s: %v\n%s", last.version, err, out)
	}
	if err := os.Rename(made, bin); err != nil {
		t.Fatal(err)
	}
	return bin
}

// versions is a directory of programs for a lab. Its agent and its controller are those of
// this tree or of the release before, as the test says; what is started next is of that
// version.
type versions struct {
	t        *testing.T
	dir      string
	old, now string
}

func newVersions(t *testing.T) *versions {
	t.Helper()
	v := &versions{t: t, dir: t.TempDir(), old: oldBin(t), now: lab.Bin(t)}
	for _, name := range []string{"lab", "labtest"} {
		v.link(v.now, name)
	}
	return v
}

func (v *versions) link(dir, name string) {
	v.t.Helper()
	tmp := filepath.Join(v.dir, name+".next")
	err := os.Symlink(filepath.Join(dir, name), tmp)
	if err == nil {
		err = os.Rename(tmp, filepath.Join(v.dir, name))
	}
	if err != nil {
		v.t.Fatal(err)
	}
}

// program chooses the version of name, agent or controller: "old" or "new".
func (v *versions) program(name, version string) {
	v.t.Helper()
	v.link(map[string]string{"old": v.old, "new": v.now}[version], name)
}

// runs reports an error if the process is not of the version.
func (v *versions) runs(pid int, version string) error {
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return err
	}
	if want := map[string]string{"old": v.old, "new": v.now}[version]; !strings.HasPrefix(exe, want+"/") {
		return fmt.Errorf("%s runs, and not that of %s", exe, want)
	}
	return nil
}
