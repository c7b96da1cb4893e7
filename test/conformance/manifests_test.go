package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	decode "k8s.io/apimachinery/pkg/util/yaml"
	conformance "sigs.k8s.io/gateway-api/conformance"
	"sigs.k8s.io/yaml"
)

// images maps an image of the suite, without its tag, to the image of ours that
// replaces it.
var images = map[string]string{
	// Istio's echo server and client, replaced by package echo.
	"registry.k8s.io/gateway-api/echo-advanced": "registry.underlane.test/echo:dev",
	// The suite's own image, built from its source.
	"registry.k8s.io/gateway-api/echo-basic": "registry.underlane.test/echo-basic:dev",
}

// manifests has the suite's manifests with other images and changed by edit. An
// object is left out if edit returns false.
type manifests struct {
	fs.ReadFileFS
	edit func(*unstructured.Unstructured) bool
}

func (m manifests) ReadFile(name string) ([]byte, error) {
	text, err := m.ReadFileFS.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	for d := decode.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096); ; {
		var u unstructured.Unstructured
		if err := d.Decode(&u.Object); errors.Is(err, io.EOF) {
			return out.Bytes(), nil
		} else if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if len(u.Object) == 0 || m.edit != nil && !m.edit(&u) {
			continue
		}
		if err := ourImages(u.Object); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		text, err := yaml.Marshal(u.Object)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		fmt.Fprintf(&out, "---\n%s", text)
	}
}

// ourImages replaces the images of an object that has a pod template.
func ourImages(object map[string]any) error {
	containers, found, err := unstructured.NestedSlice(object, "spec", "template", "spec", "containers")
	if err != nil || !found {
		return err
	}
	for _, c := range containers {
		c, ok := c.(map[string]any)
		if !ok {
			return fmt.Errorf("a container that is %T", c)
		}
		image, _, _ := unstructured.NestedString(c, "image")
		name, _, _ := strings.Cut(image, ":")
		if images[name] == "" {
			return fmt.Errorf("no image of ours for %q", image)
		}
		c["image"] = images[name]
	}
	return unstructured.SetNestedSlice(object, containers, "spec", "template", "spec", "containers")
}

// objects decodes the objects in a manifest file.
func objects(t *testing.T, from fs.FS, name string) (out []map[string]any) {
	t.Helper()
	text, err := fs.ReadFile(from, name)
	if err != nil {
		t.Fatal(err)
	}
	for d := decode.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096); ; {
		var u map[string]any
		if err := d.Decode(&u); errors.Is(err, io.EOF) {
			return out
		} else if err != nil {
			t.Fatal(err)
		}
		if len(u) > 0 {
			out = append(out, u)
		}
	}
}

// TestManifests checks that the manifests of the report differ from the suite's
// only in their images.
func TestManifests(t *testing.T) {
	const name = "mesh/manifests.yaml"
	before := objects(t, conformance.Manifests, name)
	after := objects(t, manifests{ReadFileFS: conformance.Manifests}, name)
	isImage := func(p cmp.Path) bool { return p.Last().String() == `["image"]` }
	if diff := cmp.Diff(before, after, cmp.FilterPath(isImage, cmp.Ignore())); diff != "" {
		t.Errorf("want only images changed (-suite +ours):\n%s", diff)
	}
	text, err := fs.ReadFile(manifests{ReadFileFS: conformance.Manifests}, name)
	if err != nil || !bytes.Contains(text, []byte("image: registry.underlane.test/echo:dev")) || bytes.Contains(text, []byte("registry.k8s.io")) {
		t.Errorf("got %v, want only images of ours in\n%s", err, text)
	}
}
