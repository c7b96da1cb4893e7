package archtest

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/underlane/underlane"

// root is the repository, seen from this package's directory.
var root = filepath.Join("..", "..")

// pkg is what `go list` says of one package of the module. Paths within the
// module are relative to it ("pkg/mesh"), all others as imported.
type pkg struct {
	Path    string
	Name    string
	Imports []string // of the product's files, not of tests
	Deps    []string // the same, transitively
}

// loadPackages lists the module's packages once.
var loadPackages = sync.OnceValues(func() ([]pkg, error) {
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Name,Imports,Deps", "./...")
	cmd.Dir, cmd.Stderr = root, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, err
	}
	var pkgs []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			ImportPath, Name string
			Imports, Deps    []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs, nil
		} else if err != nil {
			return nil, err
		}
		pkgs = append(pkgs, pkg{relative(p.ImportPath), p.Name, allRelative(p.Imports), allRelative(p.Deps)})
	}
})

func packages(t *testing.T) []pkg {
	t.Helper()
	pkgs, err := loadPackages()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	if len(pkgs) < 10 {
		t.Fatalf("go list found %d packages: the tests look at the wrong directory", len(pkgs))
	}
	return pkgs
}

// relative marks packages of the module by having no dot in the first element.
func relative(importPath string) string {
	if importPath == module {
		return "."
	}
	return strings.TrimPrefix(importPath, module+"/")
}

func allRelative(paths []string) []string {
	out := make([]string, len(paths))
	for i, p := range paths {
		out[i] = relative(p)
	}
	return out
}

// within reports whether path is one of dirs or below it.
func within(path string, dirs ...string) bool {
	for _, d := range dirs {
		if path == d || strings.HasPrefix(path, d+"/") {
			return true
		}
	}
	return false
}

// source is a text file of the repository.
type source struct {
	path  string // relative, with slashes
	text  string
	lines int

	// Go files only.
	file      *ast.File
	generated bool
}

func (s source) isTest() bool { return strings.HasSuffix(s.path, "_test.go") }

func (s source) dir() string {
	dir, _, _ := cutLast(s.path)
	return dir
}

func cutLast(path string) (dir, base string, found bool) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return ".", path, false
	}
	return path[:i], path[i+1:], true
}

var sourceNames = []string{".go", ".c", ".h", ".sh", ".proto", "Makefile", ".mk"}

// loadSources reads every source file once.
var loadSources = sync.OnceValues(func() ([]source, error) {
	var out []source
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if path != root && (strings.HasPrefix(name, ".") && name != ".ci" || name == "bin" || name == "testdata" || name == "node_modules") {
				return filepath.SkipDir
			}
			return nil
		}
		for _, suffix := range sourceNames {
			if strings.HasSuffix(name, suffix) {
				s, err := readSource(path)
				out = append(out, s)
				return err
			}
		}
		return nil
	})
	return out, err
})

func readSource(path string) (source, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return source{}, err
	}
	rel, err := filepath.Rel(root, path)
	if err != nil {
		return source{}, err
	}
	return parseSource(filepath.ToSlash(rel), string(data))
}

func parseSource(path, text string) (source, error) {
	s := source{path: path, text: text, lines: strings.Count(text, "\n")}
	if !strings.HasSuffix(path, ".go") {
		return s, nil
	}
	file, err := parser.ParseFile(token.NewFileSet(), path, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return s, err
	}
	s.file, s.generated = file, ast.IsGenerated(file)
	return s, nil
}

func sources(t *testing.T) []source {
	t.Helper()
	all, err := loadSources()
	if err != nil {
		t.Fatalf("read sources: %v", err)
	}
	return all
}

func report(t *testing.T, violations []string) {
	t.Helper()
	for _, v := range violations {
		t.Error(v)
	}
}
