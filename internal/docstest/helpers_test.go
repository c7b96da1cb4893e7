package docstest

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/underlane/underlane/internal/rundir"
)

const root = "../.."

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// firsts are the first groups of all matches of a pattern; a pattern that
// matches nothing looks at the wrong place.
func firsts(t *testing.T, pattern, text string) []string {
	t.Helper()
	var out []string
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		out = append(out, m[1])
	}
	if out == nil {
		t.Fatalf("nothing matches %s: has the code moved?", pattern)
	}
	return out
}

// files are the files of the repository by path: those with one of the endings, or
// all when none is given.
func files(t *testing.T, endings ...string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := e.Name(); e.IsDir() && (name == "bin" || name == "node_modules" || len(name) > 2 && name[0] == '.') {
			return fs.SkipDir
		}
		if !e.IsDir() && (len(endings) == 0 || slices.Contains(endings, filepath.Ext(path))) {
			rel, err := filepath.Rel(root, path)
			out = append(out, rel)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// pages are the Markdown files of the repository.
func pages(t *testing.T) []string {
	t.Helper()
	out := files(t, ".md")
	if len(out) < 5 {
		t.Fatalf("only %d pages found: %v", len(out), out)
	}
	return out
}

// programs are the commands of this repository whose help the tests read.
var programs = []string{"cmd/agent", "cmd/controller", "cmd/underlane", "test/lab/cmd/lab"}

// buildPrograms builds them all at once, because a linker alone leaves processors idle.
var buildPrograms = sync.OnceValue(func() error {
	cmd := exec.Command("go", "build", "-buildvcs=false", "-ldflags=-s -w", "-o", dir+"/")
	for _, pkg := range programs {
		cmd.Args = append(cmd.Args, "./"+pkg)
	}
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %v: %w\n%s", programs, err, out)
	}
	return nil
})

// program returns the path of a command of this repository.
func program(t *testing.T, pkg string) string {
	t.Helper()
	if !slices.Contains(programs, pkg) {
		t.Fatalf("%s is not among the programs that are built", pkg)
	}
	if err := buildPrograms(); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, filepath.Base(pkg))
}

var dir string

func TestMain(m *testing.M) {
	var remove func()
	var err error
	if dir, remove, err = rundir.Make("docstest"); err != nil {
		panic(err)
	}
	code := m.Run()
	remove()
	os.Exit(code)
}

// help is what a command says of itself.
func help(t *testing.T, pkg string, args ...string) string {
	t.Helper()
	out, err := exec.Command(program(t, pkg), append(args, "--help")...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v --help: %v\n%s", pkg, args, err, out)
	}
	return string(out)
}

// commands are the sub-commands that a command lists.
func commands(t *testing.T, pkg string, args ...string) []string {
	t.Helper()
	_, list, ok := strings.Cut(help(t, pkg, args...), "Available Commands:\n")
	if !ok {
		t.Fatalf("%s lists no commands", pkg)
	}
	list, _, _ = strings.Cut(list, "\n\n")
	return firsts(t, `(?m)^  ([a-z-]+) `, list)
}
