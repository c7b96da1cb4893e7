package watch

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/underlane/underlane/pkg/controller/translate"
)

func TestDecode(t *testing.T) {
	objects, err := decode([]byte(`# a comment
---
apiVersion: v1
kind: Namespace
metadata: {name: shop, namespace: ignored}
--- # the next one
apiVersion: apps/v1
kind: Deployment
metadata: {name: passed-over}
spec: {nonsense: true}
---
---

apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop}
status: {podIP: 10.0.0.1}
---
{"apiVersion": "v1", "kind": "List", "items": [
  {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}},
  {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web"}},
  {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "all"}}]}
`))
	if err != nil {
		t.Fatal(err)
	}
	type what struct {
		Object string
		Line   int
	}
	var got []what
	for _, o := range objects {
		got = append(got, what{o.String(), o.line})
	}
	want := []what{{"Namespace shop", 3}, {"Pod shop/web", 14}, {"Service default/web", 19}, {"NetworkPolicy default/all", 19}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if p := objects[1].Object.(*translate.Pod); p.Status.PodIP != "10.0.0.1" {
		t.Errorf("%+v", p.Status)
	}
}

func TestDecodeErrorsNameTheLine(t *testing.T) {
	for name, tc := range map[string]struct {
		text string
		line int
		want string
	}{
		"syntax": {"apiVersion: v1\nkind: Pod\nmetadata:\n  name: [a\n", 4, "did not find"},
		"syntax in the second document": {
			"apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\nkind: Pod\n\tx: y\n", 6, "found a tab character",
		},
		"unknown field": {
			"apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  lables: {}\n", 5, `unknown field "metadata.lables"`,
		},
		"unknown field below": {
			"# head\napiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n  - name: c\n    port: []\n", 8,
			`unknown field "spec.containers[0].port"`,
		},
		"wrong type": {
			"apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\nspec:\n  hostNetwork: maybe\n", 6, "hostNetwork",
		},
		"twice the same key":     {"apiVersion: v1\nkind: Pod\nkind: Pod\n", 3, "already"},
		"no name":                {"---\n\napiVersion: v1\nkind: Pod\n", 3, "metadata.name is missing"},
		"a slash in a name":      {"apiVersion: v1\nkind: Pod\nmetadata: {name: a/b}\n", 1, "is not a name"},
		"a colon in an identity": {"apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {serviceAccountName: \"a:b\"}\n", 1, "spec.serviceAccountName"},
		"no kind":                {"\n\nfoo: bar\n", 3, "apiVersion or kind is missing"},
		"a list":                 {"- a\n- b\n", 1, "not a Kubernetes object"},
		"a string":               {"hello\n", 1, "not a Kubernetes object"},
		"a List in a List":       {"apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: List}]\n", 1, "a List in a List"},
		"binary":                 {"\x00\x01\x02", 1, "control characters"},
	} {
		_, err := decode([]byte(tc.text))
		var at *lineError
		if !errors.As(err, &at) {
			t.Errorf("%s: got %v", name, err)
			continue
		}
		if at.line != tc.line || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want line %d and %q", name, err, tc.line, tc.want)
		}
	}
}

// FuzzDecode: whatever a file holds, decoding ends in objects with names or in
// an error with a line of the file.
func FuzzDecode(f *testing.F) {
	f.Add([]byte("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n---\n# nothing\n---\nkind: x"))
	f.Add([]byte(`{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"Service","metadata":{"name":"s"},"spec":{"ports":[{"port":80}]}}]}`))
	f.Add([]byte("apiVersion: v1\nkind: Pod\nspec: {containers: [{nam: x}]}\n"))
	f.Add([]byte("a: &a [*a]\n"))
	f.Add([]byte("0:\r0"))
	f.Fuzz(func(t *testing.T, text []byte) {
		objects, err := decode(text)
		var at *lineError
		if err != nil {
			if !errors.As(err, &at) || at.line < 1 || at.line > strings.Count(string(text), "\n")+2 {
				t.Errorf("the error %v has no line of the file", err)
			}
		}
		for _, o := range objects {
			if o.GetName() == "" {
				t.Error("an object without a name")
			}
		}
	})
}
