package component

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
)

func TestFingerprintOfTheTree(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range slices.Concat(All, Asked) {
		version, hash, err := c.fingerprint(filepath.Join("..", "components", c.Name))
		if err != nil {
			t.Fatal(err)
		}
		if version[0] != 'v' || len(hash) != 10 || seen[hash] {
			t.Errorf("%s: version %q, hash %q; want a version and a unique hash of 10 digits", c.Name, version, hash)
		}
		seen[hash] = true
	}
}

var fake = Component{Name: "fake", Pattern: ".", Module: "example.com/dep", Flags: func(string) string { return "" }}

// TestFingerprintChanges checks that everything that determines the result of the
// build changes the hash.
func TestFingerprintChanges(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("go.mod", "module fake\n\nrequire (\n\texample.com/dep v1.2.3\n)\n")
	write("go.sum", "")
	write("main.go", "package main")
	seen := map[string]bool{}
	fake := fake
	check := func(what string) {
		t.Helper()
		version, hash, err := fake.fingerprint(dir)
		if err != nil {
			t.Fatal(err)
		}
		if version != "v1.2.3" || seen[hash] {
			t.Errorf("%s: version %s and hash %s, want new ones", what, version, hash)
		}
		seen[hash] = true
	}
	check("at first")
	write("main.go", "package main // changed")
	check("source changed")
	write("go.sum", "example.com/dep v1.2.3 h1:x")
	check("sum changed")
	write("other.go", "package main")
	check("file added")
	write("patch/one.go", "package one")
	check("file added in a directory")
	fake.Changes = []Change{{Module: "example.com/dep", File: "a.go", With: "patch/one.go"}}
	check("change of a module")
	fake.Changes[0].File = "b.go"
	check("another file changed")
	write("go.mod", "module fake\n")
	if _, _, err := fake.fingerprint(dir); err == nil {
		t.Error("without the module that gives the version: got no error, want one")
	}
}

func TestBuildOnce(t *testing.T) {
	src, cache := t.TempDir(), t.TempDir()
	for name, text := range map[string]string{
		"go.mod":  "module fake\n\ngo 1.26.0\n\nrequire example.com/dep v1.2.3\n",
		"go.sum":  "",
		"main.go": "package main\n\nfunc main() {}\n",
	} {
		if err := os.MkdirAll(filepath.Join(src, "fake"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(src, "fake", name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	dir, err := fake.Build(src, cache, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	built, err := os.Stat(filepath.Join(dir, "fake"))
	if err != nil {
		t.Fatal(err)
	}
	again, err := fake.Build(src, cache, io.Discard)
	if err != nil || again != dir {
		t.Fatalf("built again: got %s, %v; want %s", again, err, dir)
	}
	if now, err := os.Stat(filepath.Join(dir, "fake")); err != nil || !now.ModTime().Equal(built.ModTime()) {
		t.Errorf("it was built again, want it from the cache: %v", err)
	}
	left, err := os.ReadDir(cache)
	if err != nil || len(left) != 1 {
		t.Errorf("the cache holds %v, %v; want one entry", left, err)
	}
}

// TestPrometheusIsTheCharts: the version that the tests run is the one that the chart starts.
// Prometheus 3.16.0 is the module's version 0.316.0.
func TestPrometheusIsTheCharts(t *testing.T) {
	version, _, err := Prometheus.fingerprint(filepath.Join("..", "components", Prometheus.Name))
	if err != nil {
		t.Fatal(err)
	}
	values, err := os.ReadFile("../../../daemonset/chart/underlane/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`image: \S+/prometheus:v(\d+)\.(\d+)\.(\d+)\n`).FindSubmatch(values)
	if m == nil {
		t.Fatal("the chart's values have no image of Prometheus with a version")
	}
	if want := fmt.Sprintf("v0.%s%02s.%s", m[1], m[2], m[3]); version != want {
		t.Errorf("the component has the version %s, want %s: that of the chart", version, want)
	}
}
