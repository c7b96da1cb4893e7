package watch

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// buffer is a bytes.Buffer for concurrent use.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// directory is a watched directory of manifests.
type directory struct {
	*Manifests
	t   *testing.T
	dir string
	log *buffer
}

func watch(t *testing.T) *directory {
	d := &directory{t: t, dir: t.TempDir(), log: &buffer{}}
	var err error
	d.Manifests, err = NewManifests(d.dir, slog.New(slog.NewTextHandler(d.log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = d.Run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-done })
	return d
}

func (d *directory) write(name, text string) {
	d.t.Helper()
	path := filepath.Join(d.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		d.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		d.t.Fatal(err)
	}
}

func (d *directory) pods() (names []string) {
	for _, p := range d.Objects().Pods {
		names = append(names, p.Name)
	}
	return names
}

// until waits for the pods to be these and the problems to contain these texts.
func (d *directory) until(pods []string, problems ...string) {
	d.t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		ps := d.Problems()
		good := cmp.Equal(pods, d.pods()) && len(ps) == len(problems)
		for i := range problems {
			good = good && strings.Contains(ps[i].String(), problems[i])
		}
		if good {
			return
		}
		select {
		case <-d.Changes():
		case <-deadline:
			d.t.Fatalf("want pods %v, problems %q; got %v, %v", pods, problems, d.pods(), ps)
		}
	}
}

func podYAML(names ...string) string {
	var b strings.Builder
	for _, n := range names {
		fmt.Fprintf(&b, "---\napiVersion: v1\nkind: Pod\nmetadata: {name: %s}\n", n)
	}
	return b.String()
}

func TestFilesComeChangeAndGo(t *testing.T) {
	d := watch(t)
	d.until(nil)
	d.write("b.yaml", podYAML("b"))
	d.until([]string{"b"})
	d.write("deep/er/a.yml", podYAML("a1", "a2"))
	d.until([]string{"b", "a1", "a2"})
	d.write("deep/er/a.yml", podYAML("a3")) // the new directories are watched
	d.until([]string{"b", "a3"})
	d.write("ignored.txt", podYAML("x"))
	d.write(".hidden.yaml", podYAML("x"))
	d.write(".hidden/x.yaml", podYAML("x"))
	d.write("c.json", `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"c"}}`)
	d.until([]string{"b", "c", "a3"})
	if got, want := d.Origin("Pod", "default", "c"), filepath.Join(d.dir, "c.json")+":1"; got != want {
		t.Errorf("origin %q, want %q", got, want)
	}
	if err := os.RemoveAll(filepath.Join(d.dir, "deep")); err != nil {
		t.Fatal(err)
	}
	d.until([]string{"b", "c"})
	if err := os.Rename(filepath.Join(d.dir, "b.yaml"), filepath.Join(d.dir, "z.yaml")); err != nil {
		t.Fatal(err)
	}
	d.until([]string{"c", "b"})
}

func TestChangesAreFoundFast(t *testing.T) {
	d := watch(t)
	d.write("a.yaml", podYAML("a"))
	d.until([]string{"a"})
	quick := 0
	for i := range 10 {
		name := fmt.Sprint("p", i)
		start := time.Now()
		d.write("a.yaml", podYAML(name))
		d.until([]string{name})
		if time.Since(start) < poll/2 {
			quick++
		}
	}
	if quick < 6 { // the machine may be busy with something else once in a while
		t.Errorf("%d of 10 changes were found at once: by polling, not by notification", quick)
	}
}

// TestAsOf: whoever wrote a file can tell when it is in Objects, even where it
// says the same as before.
func TestAsOf(t *testing.T) {
	d := watch(t)
	for range 3 {
		for len(d.Changes()) > 0 {
			<-d.Changes()
		}
		d.write("a.yaml", podYAML("a"))
		written := time.Now()
		deadline := time.After(10 * time.Second)
		// It may have been read before the time was taken.
		again := time.NewTicker(poll / 4)
		for told := false; !told; {
			select {
			case <-d.Changes():
				told = !d.AsOf().Before(written)
			case <-again.C:
				d.write("a.yaml", podYAML("a"))
			case <-deadline:
				t.Fatal("nobody was told that the file was read")
			}
		}
		again.Stop()
		d.until([]string{"a"})
	}
}

func TestBrokenManifestKeepsLastGood(t *testing.T) {
	d := watch(t)
	d.write("a.yaml", podYAML("a"))
	d.write("b.yaml", podYAML("b"))
	d.until([]string{"a", "b"})
	d.write("a.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: a2}\nspeck: {}\n")
	d.until([]string{"a", "b"}, `a.yaml:4: Pod: strict decoding error: unknown field "speck"`)
	d.write("b.yaml", podYAML("b2")) // others go on
	d.until([]string{"a", "b2"}, "a.yaml:4")
	d.write("a.yaml", podYAML("a2"))
	d.until([]string{"a2", "b2"})
	if n := strings.Count(d.log.String(), "broken manifest"); n != 1 || d.Failures() != 1 {
		t.Errorf("%d lines, %d failures: %s", n, d.Failures(), d.log)
	}
	if !strings.Contains(d.log.String(), "line=4") || !strings.Contains(d.log.String(), "good again") {
		t.Error(d.log)
	}
}

func TestBrokenFromTheStart(t *testing.T) {
	d := watch(t)
	d.write("a.yaml", "kind: [")
	d.until(nil, "a.yaml:1:")
	d.write("a.yaml", podYAML("a"))
	d.until([]string{"a"})
	// What is valid in a file that was never valid as a whole counts: the controller may have
	// been started again.
	d.write("b.yaml", podYAML("b")+"---\nkind: [\n---\n"+podYAML("c"))
	d.until([]string{"a", "b", "c"}, "b.yaml:6:")
	d.write("b.yaml", podYAML("b", "d")+"---\nkind: [\n")
	d.until([]string{"a", "b", "d"}, "b.yaml:10:")
	d.write("b.yaml", podYAML("b"))
	d.until([]string{"a", "b"})
	d.write("b.yaml", "kind: [")
	d.until([]string{"a", "b"}, "b.yaml:1:")
}

// TestEmptiedFileKeepsItsObjects: a writer that truncates and then thinks for a
// while must not take pods out of the mesh.
func TestEmptiedFileKeepsItsObjects(t *testing.T) {
	d := watch(t)
	d.write("a.yaml", podYAML("a"))
	d.until([]string{"a"})
	d.write("a.yaml", "")
	d.until([]string{"a"}, "a.yaml: the file is empty")
	d.write("a.yaml", "# on purpose\n")
	d.until(nil)
}

func TestDuplicateNamesBothFiles(t *testing.T) {
	d := watch(t)
	d.write("a.yaml", podYAML("x"))
	d.until([]string{"x"})
	d.write("b.yaml", podYAML("w", "x"))
	d.until([]string{"x", "w"}, fmt.Sprintf("b.yaml:6: Pod default/x is in %s:2 already", filepath.Join(d.dir, "a.yaml")))
	if err := os.Remove(filepath.Join(d.dir, "a.yaml")); err != nil {
		t.Fatal(err)
	}
	d.until([]string{"w", "x"})
}

// TestMountedConfigMap swaps a directory the way the kubelet does: files are
// links through ..data, which is renamed over.
func TestMountedConfigMap(t *testing.T) {
	d := watch(t)
	mount := func(version, text string) {
		d.write("..v"+version+"/a.yaml", text)
		next := filepath.Join(d.dir, "..data_tmp")
		if err := os.Symlink("..v"+version, next); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, filepath.Join(d.dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	mount("1", podYAML("one"))
	if err := os.Symlink("..data/a.yaml", filepath.Join(d.dir, "a.yaml")); err != nil {
		t.Fatal(err)
	}
	d.until([]string{"one"})
	mount("2", podYAML("two"))
	d.until([]string{"two"})
}

func TestDirectoryThatVanishes(t *testing.T) {
	d := watch(t)
	d.write("a.yaml", podYAML("a"))
	d.until([]string{"a"})
	moved := d.dir + "-moved"
	if err := os.Rename(d.dir, moved); err != nil {
		t.Fatal(err)
	}
	d.until([]string{"a"}, "no such file or directory")
	if err := os.Rename(moved, d.dir); err != nil {
		t.Fatal(err)
	}
	d.write("a.yaml", podYAML("back"))
	d.until([]string{"back"})
}

func TestNewManifestsNeedsADirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{file: "is a file", file + "x": "no such file"} {
		if _, err := NewManifests(path, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// TestOneNameInTwoGroups: HTTPRoutes of one name, of the Gateway API and of Linkerd, are two
// objects.
func TestOneNameInTwoGroups(t *testing.T) {
	dir := t.TempDir()
	const route = "apiVersion: %s\nkind: HTTPRoute\nmetadata: {name: r, namespace: shop}\nspec: {parentRefs: [{name: s}]}\n"
	first := filepath.Join(dir, "a.yaml")
	for path, text := range map[string]string{
		first:                        fmt.Sprintf(route, "gateway.networking.k8s.io/v1") + "---\n" + fmt.Sprintf(route, "policy.linkerd.io/v1beta3"),
		filepath.Join(dir, "b.yaml"): fmt.Sprintf(route, "policy.linkerd.io/v1beta2"),
	} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	m, err := NewManifests(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if o := m.Objects(); len(o.HTTPRoutes) != 1 || len(o.PolicyObjects) != 1 {
		t.Errorf("got %d and %d", len(o.HTTPRoutes), len(o.PolicyObjects))
	}
	if p := m.Problems(); len(p) != 1 || p[0].Reason != "HTTPRoute.policy.linkerd.io shop/r is in "+first+":6 already: that one counts" {
		t.Errorf("got %v", p)
	}
	for _, kind := range []string{"HTTPRoute", "HTTPRoute.policy.linkerd.io"} {
		if m.Origin(kind, "shop", "r") == "" {
			t.Errorf("%s has no origin", kind)
		}
	}
}
