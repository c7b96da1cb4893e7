package programs

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// python is Debian's interpreter, whatever else is in the PATH.
const python = "/usr/bin/python3"

// environment is what scripts find besides Debian's programs: the Go programs of
// this repository in bin, and the libraries from PyPI and npm. The libraries are
// pinned by hash in testdata and kept outside the tree by what they were made of.
func environment(bin string) ([]string, error) {
	modules, err := cached("python", filepath.Join("testdata", "python"),
		[]string{python, "-c", "import sys, platform; print(sys.implementation.cache_tag, platform.machine())"},
		func(src, dir string) *exec.Cmd {
			return exec.Command(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
				"--root-user-action=ignore", "--require-hashes", "--only-binary", ":all:",
				"--target", dir, "--requirement", filepath.Join(src, "requirements.txt"))
		})
	if err != nil {
		return nil, err
	}
	packages, err := cached("node", filepath.Join("testdata", "node"), []string{"node", "--version"},
		func(src, dir string) *exec.Cmd {
			cmd := exec.Command("npm", "ci", "--silent", "--ignore-scripts", "--no-audit", "--no-fund")
			cmd.Dir = dir
			return cmd
		})
	if err != nil {
		return nil, err
	}
	return []string{
		"PATH=" + bin + ":/usr/sbin:/usr/bin:/sbin:/bin",
		"PYTHONPATH=" + modules,
		"PYTHONDONTWRITEBYTECODE=1",
		"NODE_PATH=" + filepath.Join(packages, "node_modules"),
	}, nil
}

// cached gives the directory that install has filled for the lock files in src and
// the version that a program prints, and has it filled if there is none yet. The
// lock files are copied there first.
func cached(name, src string, version []string, install func(src, dir string) *exec.Cmd) (string, error) {
	out, err := exec.Command(version[0], version[1:]...).Output()
	if err != nil {
		return "", fmt.Errorf("%v: %w (is it installed? scripts/deps.sh programs)", version, err)
	}
	sum := sha256.New()
	fmt.Fprintf(sum, "%s\n", out)
	files := os.DirFS(src)
	err = fs.WalkDir(files, ".", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		text, err := fs.ReadFile(files, path)
		fmt.Fprintf(sum, "%s %d\n%s", path, len(text), text)
		return err
	})
	if err != nil {
		return "", err
	}
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, name+"-"+hex.EncodeToString(sum.Sum(nil))[:16])
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	tmp, err := os.MkdirTemp(cache, "installing-"+name+"-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	if err := os.Chmod(tmp, 0o755); err != nil { // servers run as other users
		return "", err
	}
	if err := os.CopyFS(tmp, files); err != nil {
		return "", err
	}
	cmd := install(src, tmp)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("install what the %s programs need: %s: %w\n%s", name, strings.Join(cmd.Args, " "), err, out)
	}
	if err := os.Rename(tmp, dir); err != nil {
		if _, there := os.Stat(dir); there != nil { // nobody else was quicker
			return "", err
		}
	}
	return dir, nil
}

// cacheDir is $UNDERLANE_CACHE or ~/.cache/underlane, and programs below it.
func cacheDir() (string, error) {
	base := os.Getenv("UNDERLANE_CACHE")
	if base == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("where to keep what was installed: %w (set UNDERLANE_CACHE)", err)
		}
		base = filepath.Join(user, "underlane")
	}
	dir := filepath.Join(base, "programs")
	return dir, os.MkdirAll(dir, 0o755)
}
