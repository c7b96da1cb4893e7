package main

import (
	"bytes"
	"debug/buildinfo"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// checkSBOM: the SBOM of a program names all modules that the linker has recorded in it, Go
// itself, and what is in the dashboard's bundle if that is in the program; and nothing else.
func checkSBOM(t *testing.T, program, platform string, binary []byte, files map[string][]byte) {
	t.Helper()
	name := program + "-v0.2.0-" + strings.ReplaceAll(platform, "/", "-")
	if strings.HasPrefix(platform, "windows/") {
		name += ".exe"
	}
	var bom struct {
		BOMFormat string
		Metadata  struct {
			Component struct{ Name, Version string }
			Tools     []map[string]any
		}
		Components []struct{ Name, Version, Purl string }
	}
	if err := json.Unmarshal(files["v0.2.0/"+name+".cdx.json"], &bom); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	info, err := buildinfo.Read(bytes.NewReader(binary))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"std": info.GoVersion}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		want[m.Path] = m.Version
	}
	if bytes.Contains(binary, bundle(t)) {
		lock := lockFile(t)
		for _, name := range []string{"svelte", "uplot", "@dagrejs/dagre", "@dagrejs/graphlib", "clsx"} {
			want[name] = lock[name]
		}
	}
	got := map[string]string{}
	for _, c := range bom.Components {
		got[c.Name] = c.Version
		if !strings.HasPrefix(c.Purl, "pkg:golang/") && !strings.HasPrefix(c.Purl, "pkg:npm/") {
			t.Errorf("%s: the URL of %s is %q", name, c.Name, c.Purl)
		}
	}
	if d := cmp.Diff(want, got); d != "" || len(bom.Components) != len(got) {
		t.Errorf("%s: %d components, and not those of the program:\n%s", name, len(bom.Components), d)
	}
	if c := bom.Metadata.Component; bom.BOMFormat != "CycloneDX" || c.Name != info.Main.Path || c.Version != "v0.2.0" || len(bom.Metadata.Tools) == 0 {
		t.Errorf("%s: %q of %+v by %v", name, bom.BOMFormat, c, bom.Metadata.Tools)
	}
}

// bundle is what a program with the dashboard has inside.
func bundle(t *testing.T) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "pkg/dashboard/dist/assets/layout.worker.js"))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// lockFile has the versions of npm's packages that the bundle is built of.
func lockFile(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "web/package-lock.json"))
	if err != nil {
		t.Fatal(err)
	}
	var lock struct {
		Packages map[string]struct{ Version string }
	}
	if err := json.Unmarshal(text, &lock); err != nil {
		t.Fatal(err)
	}
	versions := map[string]string{}
	for path, p := range lock.Packages {
		versions[strings.TrimPrefix(path, "node_modules/")] = p.Version
	}
	return versions
}

// The licences of the bundle that is committed name packages and versions of the lock file.
func TestBundledPackages(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "pkg/dashboard/dist/assets/licences.txt"))
	if err != nil {
		t.Fatal(err)
	}
	list, err := packagesOf(string(text))
	if err != nil {
		t.Fatal(err)
	}
	lock, got := lockFile(t), map[string]string{}
	for _, p := range list {
		got[p.name] = p.version
		if lock[p.name] != p.version {
			t.Errorf("%s %s: the lock file has %q", p.name, p.version, lock[p.name])
		}
	}
	if want := []string{"@dagrejs/dagre", "@dagrejs/graphlib", "clsx", "svelte", "uplot"}; !slices.Equal(slices.Sorted(maps.Keys(got)), want) {
		t.Errorf("%v, want %v", got, want)
	}
	for _, bad := range []string{"", "svelte\n\nMIT", "svelte 5 x\n\nMIT", "svelte 5\n\nMIT\n----\n\nuplot\n\nMIT"} {
		if list, err := packagesOf(bad); err == nil {
			t.Errorf("%q: %v", bad, list)
		}
	}
	if got, want := (npmPackage{"@dagrejs/dagre", "3.1.3"}).url(), "pkg:npm/%40dagrejs/dagre@3.1.3"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
