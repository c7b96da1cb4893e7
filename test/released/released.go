// Package released has the programs of the releases before this version, for tests of
// upgrades.
package released

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Release is a release before this version.
type Release struct {
	Version string // such as v0.1.0
	Commit  string // all of its hash
	Tag     string // of its images
}

// all are the releases, the last at the end. Upgrades are tested from that.
var all = []Release{
	{"v0.1.0", "092718847636ce0c6c701492fd0bd2ed3d5f26df", "0.1.0"},
}

// Last returns the release before this version.
func Last() Release { return all[len(all)-1] }

// Build builds programs, such as "agent" (of cmd/agent), of a release from its commit, and
// returns their directory. repo is the source tree, whose repository has to have the
// commit. Each program is built once, into the user's cache.
func (r Release) Build(repo string, programs ...string) (dir string, err error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	// The commit is in the name: what a version stands for may change before it is out.
	dir = filepath.Join(cache, "underlane/releases", r.Version+"-"+r.Commit[:12])
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	lock, err := os.OpenFile(dir+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return "", err
	}
	var missing []string
	for _, name := range programs {
		if _, err := os.Stat(filepath.Join(dir, name)); errors.Is(err, os.ErrNotExist) {
			missing = append(missing, name)
		} else if err != nil {
			return "", err
		}
	}
	if len(missing) == 0 {
		return dir, nil
	}
	return dir, r.build(repo, dir, missing)
}

// build compiles programs in a directory beside dir, and moves them there.
func (r Release) build(repo, dir string, programs []string) error {
	work, err := os.MkdirTemp(filepath.Dir(dir), "making-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	src, bin := filepath.Join(work, "src"), filepath.Join(work, "bin")
	unpack := exec.Command("sh", "-c", `mkdir "$2" && git archive "$1" | tar -xf - -C "$2" && test -e "$2/go.mod"`, "-", r.Commit, src)
	unpack.Dir = repo
	if out, err := unpack.CombinedOutput(); err != nil {
		return fmt.Errorf("the source of %s, commit %s: %w: %s: is this a shallow clone? git fetch --unshallow", r.Version, r.Commit, err, out)
	}
	args := []string{
		"build", "-trimpath", "-buildvcs=false", "-ldflags=-X github.com/underlane/underlane/internal/version.Version=" + r.Version,
		"-o", bin + "/",
	}
	for _, name := range programs {
		args = append(args, "./cmd/"+name)
	}
	build := exec.Command("go", args...)
	build.Dir = src
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", r.Version, err, out)
	}
	for _, name := range programs {
		if err := os.Rename(filepath.Join(bin, name), filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}
