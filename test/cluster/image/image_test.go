package image

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "program")
	put := func(text string) {
		if err := os.WriteFile(program, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("one")
	path := filepath.Join(dir, "x.tar")
	spec := Spec{Ref: "registry.test/x:dev", Files: map[string]string{"run-it": program}, Entrypoint: []string{"/run-it"}, User: "65532:65532"}
	digest, err := Write(path, spec)
	if err != nil {
		t.Fatal(err)
	}

	files := readTar(t, path)
	var index v1.IndexManifest
	decode(t, files["index.json"], &index)
	if len(index.Manifests) != 1 || index.Manifests[0].Digest.String() != digest {
		t.Fatalf("index %+v, want the manifest %s", index, digest)
	}
	if got := index.Manifests[0].Annotations["io.containerd.image.name"]; got != spec.Ref {
		t.Errorf("containerd would name it %q, want its reference", got)
	}
	blob := func(h v1.Hash) []byte { return files["blobs/"+h.Algorithm+"/"+h.Hex] }
	var manifest v1.Manifest
	decode(t, blob(index.Manifests[0].Digest), &manifest)
	if manifest.MediaType != types.OCIManifestSchema1 || manifest.Config.MediaType != types.OCIConfigJSON {
		t.Errorf("media types %s and %s, want those of OCI", manifest.MediaType, manifest.Config.MediaType)
	}
	var config v1.ConfigFile
	decode(t, blob(manifest.Config.Digest), &config)
	if diff := cmp.Diff(v1.Config{User: "65532:65532", Entrypoint: []string{"/run-it"}, Env: []string{"PATH=/"}}, config.Config); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
	layer := filepath.Join(dir, "layer.tar")
	if err := os.WriteFile(layer, blob(manifest.Layers[0].Digest), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := string(readTar(t, layer)["run-it"]); got != "one" {
		t.Errorf("the program is %q, want one", got)
	}

	// The same image is not written again; one with another program is.
	before, _ := os.Stat(path)
	if again, err := Write(path, spec); err != nil || again != digest {
		t.Errorf("written again: got %s, %v; want %s", again, err, digest)
	}
	if after, _ := os.Stat(path); !after.ModTime().Equal(before.ModTime()) {
		t.Error("the same image was written again, want it left alone")
	}
	put("two")
	other, err := Write(path, spec)
	if err != nil || other == digest {
		t.Errorf("another program: got %s, %v; want another digest", other, err)
	}
	if kept, err := Digest(path); err != nil || kept != other {
		t.Errorf("Digest = %s, %v; want %s", kept, err, other)
	}
}

func TestDigestOfForeignTar(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.tar")
	if _, err := Digest(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no tar: got %v, want that it does not exist", err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if d, err := Digest(path); d != "" || err != nil {
		t.Errorf("a tar without a digest: got %q, %v; want an empty digest and no error", d, err)
	}
}

func readTar(t *testing.T, path string) map[string][]byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	files := map[string][]byte{}
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}

func decode(t *testing.T, text []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
}
