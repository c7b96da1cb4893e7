package selfcheck

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/underlane/underlane/test/lab"
)

// TestBareDemo checks that, without the mesh, the demo works but all other checks
// fail: they detect that the mesh is missing.
func TestBareDemo(t *testing.T) {
	bin := t.TempDir()
	build := exec.Command("go", "build", "-o", bin+"/", "../cmd/emojivote", "../cmd/democheck")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the demo: %v\n%s", err, out)
	}
	l := lab.Up(t, lab.Options{NoMesh: true, Bin: bin}, "../manifests")
	results, err := Run(t.Context(), Config{
		Lab:     Lab{Command: []string{filepath.Join(l.Bin(), "lab"), "--state", l.Name()}},
		Capture: filepath.Join(bin, "democheck"), Uplink: "eth0", Log: t.Output(),
		Times: Times{Votes: time.Second, Tap: time.Second, Top: time.Second, Capture: 2 * time.Second},
	})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, r := range results {
		t.Log(r.Check, r.Saw, r.Err)
		got[r.Check] = r.Err == nil
		if r.Check == "the wire is encrypted" && (r.Err == nil || !strings.Contains(r.Err.Error(), "in the clear")) {
			t.Errorf("%s: got %v, want an error about words in the clear", r.Check, r.Err)
		}
	}
	want := map[string]bool{
		"requests flow": true, "a server that speaks first works at once": true,
		"identities are right": false, "the wire is encrypted": false, "top finds the failing vote": false,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("good checks (-want +got):\n%s", diff)
	}
}
