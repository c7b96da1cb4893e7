package manifest

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write the golden files")

var (
	mesh = Change{
		Labels:      map[string]string{"underlane.io/mesh": "enabled"},
		Annotations: map[string]string{"underlane.io/opaque-ports": "25,3306"},
	}
	unmesh = Change{Remove: []string{"underlane.io/mesh"}}
)

// What comes out is compared with what is committed; a line for each object,
// as comments, stands before it.
func TestGolden(t *testing.T) {
	inputs, err := filepath.Glob("testdata/*.[yj]*[ln]")
	if err != nil || len(inputs) < 4 {
		t.Fatalf("inputs: %v %v", inputs, err)
	}
	for _, input := range inputs {
		if strings.HasSuffix(input, ".golden") {
			continue
		}
		for name, change := range map[string]Change{"mesh": mesh, "unmesh": unmesh} {
			t.Run(filepath.Base(input)+"/"+name, func(t *testing.T) {
				text, err := os.ReadFile(input)
				if err != nil {
					t.Fatal(err)
				}
				out, reports, err := change.Apply(text)
				if err != nil {
					t.Fatal(err)
				}
				var got strings.Builder
				for _, r := range reports {
					fmt.Fprintf(&got, "#> %s %q %d %s\n", r.Kind, r.Name, r.Outcome, r.Reason)
				}
				got.Write(out)
				golden := input + "." + name + ".golden"
				if *update {
					if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(golden)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(string(want), got.String()); diff != "" {
					t.Error(diff)
				}
				again, _, err := change.Apply(out)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(string(out), string(again)); diff != "" {
					t.Errorf("a second time changes more:\n%s", diff)
				}
			})
		}
	}
}

func TestNothingToDoChangesNoByte(t *testing.T) {
	text := "\r\n--- # first\r\nkind: Service\r\nmetadata:   {name: x}\r\n---\n---\nkind: ConfigMap\ndata: {a:   b}"
	out, _, err := mesh.Apply([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(text, string(out)); diff != "" {
		t.Error(diff)
	}
}

func TestBrokenDocumentIsNamed(t *testing.T) {
	_, _, err := mesh.Apply([]byte("kind: Pod\n---\nkind: [\n"))
	if err == nil || !strings.Contains(err.Error(), "document 2") {
		t.Error(err)
	}
}

// Whatever comes in: no panic, and what comes out says the same but for what
// was to be changed.
func FuzzApply(f *testing.F) {
	inputs, _ := filepath.Glob("testdata/*")
	for _, input := range inputs {
		if text, err := os.ReadFile(input); err == nil {
			f.Add(text)
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		out, reports, err := mesh.Apply(text)
		if err != nil || len(reports) != 1 || reports[0].Outcome != Changed || strings.Contains(string(text), "---") {
			return
		}
		var o map[string]any
		if yaml.Unmarshal(text, &o) != nil {
			return // not what kubectl would take
		}
		var after map[string]any
		if err := yaml.Unmarshal(out, &after); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if back, _, err := (&Change{Remove: []string{"underlane.io/mesh"}}).Apply(out); err == nil && strings.Contains(string(back), "underlane.io/mesh: enabled") && !strings.Contains(string(text), "underlane.io/mesh") {
			t.Fatalf("the label stays:\n%s", back)
		}
	})
}

// Several keys of a mapping that is missing are put into one.
func TestMissingMappingIsMadeOnce(t *testing.T) {
	c := Change{Labels: map[string]string{"l": "1", "m": "true"}, Annotations: map[string]string{"a": "25", "b": "x: y"}}
	out, _, err := c.Apply([]byte("kind: Job\nspec:\n  template:\n    # containers\n    spec: {}\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := `kind: Job
spec:
  template:
    metadata:
      labels:
        l: "1"
        m: "true"
      annotations:
        a: "25"
        b: 'x: y'
    # containers
    spec: {}
`
	if diff := cmp.Diff(want, string(out)); diff != "" {
		t.Error(diff)
	}
}

// `kubectl get deploy -A -o yaml` of a large cluster is one List.
func BenchmarkList(b *testing.B) {
	var text strings.Builder
	text.WriteString("kind: List\nitems:\n")
	for i := range 1000 {
		fmt.Fprintf(&text, "- kind: Deployment\n  metadata: {name: d%d}\n  spec:\n    template:\n      metadata:\n        labels:\n          app: d\n", i)
	}
	for b.Loop() {
		if _, _, err := mesh.Apply([]byte(text.String())); err != nil {
			b.Fatal(err)
		}
	}
}
