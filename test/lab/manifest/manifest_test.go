package manifest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/underlane/underlane/pkg/controller/custom"
)

const good = `# The shop.
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
# Two of them.

apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: web, command: [web]}]
--- # a comment on the separator
---
apiVersion: v1
kind: ConfigMap
metadata: {name: c}
---
apiVersion: example.com/v1
kind: Thing
metadata: {name: t}
`

func TestParse(t *testing.T) {
	objects, warnings, err := Parse([]File{{"shop.yaml", good}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, o := range objects {
		got = append(got, o.Where+" "+o.Key())
	}
	want := []string{"shop.yaml:2 namespace//shop", "shop.yaml:8 deployment/shop/web"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("objects (-want +got):\n%s", diff)
	}
	if len(warnings) != 2 || !strings.HasPrefix(warnings[0], "shop.yaml:19: configmap/default/c: passed over") || !strings.HasPrefix(warnings[1], "shop.yaml:23: passed over") {
		t.Errorf("got the warnings %q, want two about objects that are passed over", warnings)
	}
	if d := objects[1].Object.(*appsv1.Deployment); *d.Spec.Replicas != 1 {
		t.Errorf("replicas default to %d, want 1", *d.Spec.Replicas)
	}
	if ns := objects[0].Object.(*corev1.Namespace); ns.Labels[corev1.LabelMetadataName] != "shop" {
		t.Errorf("labels of the namespace: got %v, want its name among them", ns.Labels)
	}
}

func TestParseErrors(t *testing.T) {
	const head = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n"
	for name, c := range map[string]struct{ text, want string }{
		"yaml":         {"# one\n---\n# three\nkind: Pod\napiVersion: v1\nmetadata: {name: a\nspec: x: y\n", "f.yaml:6: "},
		"unknown":      {head + "spec:\n  contaners: []\n", `unknown field "spec.contaners"`},
		"type":         {head + "spec: 5\n", "f.yaml:1: "},
		"no kind":      {"metadata: {name: a}\n", "f.yaml:1: "},
		"empty pod":    {head + "spec: {}\n", "f.yaml:1: pod/default/a: spec.containers is empty"},
		"host network": {head + "spec: {hostNetwork: true, containers: [{name: a, command: [a]}]}\n", "spec.hostNetwork"},
		"name":         {"apiVersion: v1\nkind: Namespace\nmetadata: {name: A_B}\n", `metadata.name "A_B"`},
		"config map":   {head + "spec: {containers: [{name: a, command: [a], env: [{name: E, valueFrom: {configMapKeyRef: {name: x, key: z}}}]}]}\n", "env E: of valueFrom"},
		"selector":     {"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec: {selector: {matchLabels: {a: b}}, template: {spec: {containers: [{name: a, command: [a]}]}}}\n", "spec.selector does not match"},
		"no selector":  {"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec: {template: {spec: {containers: [{name: a, command: [a]}]}}}\n", "spec.selector does not match"},
		"port":         {"apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 70000}]}\n", "spec.ports[0].port is 70000"},
		"twice":        {"apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n", "f.yaml:5: namespace//a is already at f.yaml:1"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := Parse([]File{{"f.yaml", c.text}})
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "f.yaml:") {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

func TestEncodeIsReadBack(t *testing.T) {
	objects, _, err := Parse([]File{{"f", good}})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objects {
		text, err := Encode(o.Object)
		if err != nil {
			t.Fatal(err)
		}
		again, _, err := Parse([]File{{"again", string(text)}})
		if err != nil || len(again) != 1 {
			t.Fatalf("got %d objects, %v; want one of\n%s", len(again), err, text)
		}
		if diff := cmp.Diff(o.Object, again[0].Object); diff != "" {
			t.Errorf("object read again (-want +got):\n%s", diff)
		}
	}
}

func TestRead(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"b.yaml", "a.json", "notes.txt"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	files, err := Read(dir, filepath.Join(dir, "notes.txt"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range files {
		got = append(got, f.Text)
	}
	if diff := cmp.Diff([]string{"a.json", "b.yaml", "notes.txt"}, got); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	for _, bad := range []string{t.TempDir(), filepath.Join(dir, "none.yaml")} {
		if _, err := Read(bad); err == nil {
			t.Errorf("%s: got no error, want one", bad)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(good)
	f.Add("---\n---\n#\n--- x\nkind: {")
	f.Fuzz(func(t *testing.T, text string) {
		docs := split(text)
		for _, d := range docs {
			if d.line < 1 || d.line > strings.Count(text, "\n")+1 {
				t.Errorf("got a document at line %d, want a line of %q", d.line, text)
			}
		}
		Parse([]File{{"f", text}})
	})
}

// TestNetworkPoliciesOfOthers: kinds that only a CNI understands are handed on as they are, those
// of a whole cluster without a namespace.
func TestNetworkPoliciesOfOthers(t *testing.T) {
	objects, warnings, err := Parse([]File{{"p.yaml", `apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: p}
spec: {endpointSelector: {}, ingress: [{fromEntities: [all]}]}
---
apiVersion: policy.networking.k8s.io/v1alpha1
kind: AdminNetworkPolicy
metadata: {name: p}
`}})
	if err != nil || len(warnings) != 0 || len(objects) != 2 {
		t.Fatalf("got %d objects, the warnings %q, %v; want two objects", len(objects), warnings, err)
	}
	for i, want := range []string{"ciliumnetworkpolicy.cilium.io/default/p", "adminnetworkpolicy.policy.networking.k8s.io//p"} {
		if got := objects[i].Key(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if got := string(objects[0].Object.(*custom.PolicyObject).Spec); !strings.Contains(got, "fromEntities") {
		t.Errorf("the specification is %s", got)
	}
}
