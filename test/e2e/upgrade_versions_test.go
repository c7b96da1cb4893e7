package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/underlane/underlane/test/lab"
	"github.com/underlane/underlane/test/released"
)

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
	old, err := released.Last().Build("../..", "agent", "controller")
	if err != nil {
		t.Fatal(err)
	}
	v := &versions{t: t, dir: t.TempDir(), old: old, now: lab.Bin(t)}
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
