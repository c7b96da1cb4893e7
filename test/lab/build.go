package lab

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/internal/rundir"
)

// BinVariable names the directory of programs that are already built (`make
// build` and labtest). Without it the tests build what they need.
const BinVariable = "UNDERLANE_TEST_BIN"

// programs are the programs of the lab.
var programs = []string{"./cmd/agent", "./cmd/controller", "./test/lab/cmd/lab", "./test/lab/labtest"}

// Bin returns the directory of the built programs: lab, labtest, agent and
// controller. They are built once for all tests of all packages, and again when a
// source file has changed.
func Bin(t testing.TB) string {
	t.Helper()
	dir, err := build()
	if err != nil {
		t.Fatalf("build the programs of the lab: %v", err)
	}
	return dir
}

var build = sync.OnceValues(func() (string, error) {
	if dir := os.Getenv(BinVariable); dir != "" {
		return filepath.Abs(dir)
	}
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(root, "bin", "test") // with what `make build` builds: `make clean` removes it
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	// Tests of several packages run at once: one builds, the others wait and
	// find everything up to date.
	lock, err := os.OpenFile(dir+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return "", err
	}
	args := append([]string{"build", "-o", dir + "/"}, programs...)
	cmd := exec.Command("go", args...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // as the programs that users get
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go %v: %w\n%s", args, err, bytes.TrimSpace(out))
	}
	return dir, nil
})

// BuildForRun builds the programs of the lab into a directory of this process, so that
// no other build changes them under its tests, and sets BinVariable. If that is set
// already, as by `make test` for all packages, it builds nothing. remove removes what
// it built. It is for TestMain.
func BuildForRun() (remove func(), err error) {
	if os.Getenv(BinVariable) != "" {
		return func() {}, nil
	}
	root, err := moduleRoot()
	if err != nil {
		return nil, err
	}
	dir, remove, err := rundir.Make("test-bin")
	if err != nil {
		return nil, err
	}
	args := append([]string{"build", "-o", dir + "/"}, programs...)
	cmd := exec.Command("go", args...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // as the programs that users get
	if out, err := cmd.CombinedOutput(); err != nil {
		remove()
		return nil, fmt.Errorf("go %v: %w\n%s", args, err, bytes.TrimSpace(out))
	}
	os.Setenv(BinVariable, dir)
	return remove, nil
}

func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	for err == nil && dir != "/" {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		dir = filepath.Dir(dir)
	}
	return "", errors.Join(errors.New("no go.mod above the working directory"), err)
}
