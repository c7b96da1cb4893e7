package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"debug/buildinfo"
	"encoding/json"
	"io"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// checkImage follows an image layout from its index to the program.
func checkImage(t *testing.T, made map[string][]byte, name, user string, arches ...string) {
	t.Helper()
	files := untar(t, made["v0.2.0/"+name+"-v0.2.0.oci.tar"])
	blob := func(d descriptor, into any) []byte {
		text := files["blobs/"+strings.ReplaceAll(d.Digest, ":", "/")]
		if digest(text) != d.Digest || len(text) != d.Size {
			t.Fatalf("%s: %s of %d bytes is %s of %d bytes", name, d.Digest, d.Size, digest(text), len(text))
		}
		if into != nil {
			if err := json.Unmarshal(text, into); err != nil {
				t.Fatal(err)
			}
		}
		return text
	}
	var top, index struct{ Manifests []descriptor }
	if err := json.Unmarshal(files["index.json"], &top); err != nil || len(top.Manifests) != 1 {
		t.Fatalf("%s: %v", files["index.json"], err)
	}
	if got := top.Manifests[0].Annotations["io.containerd.image.name"]; got != "ghcr.io/underlane/"+name+":v0.2.0" {
		t.Errorf("it is called %s", got)
	}
	blob(top.Manifests[0], &index)
	var got []string
	for _, m := range index.Manifests {
		got = append(got, m.Platform["architecture"])
		var manifest struct {
			Config descriptor
			Layers []descriptor
		}
		blob(m, &manifest)
		var config struct {
			Created, Architecture string
			Config                struct {
				User       string
				Entrypoint []string
				Labels     map[string]string
			}
			RootFS struct {
				DiffIDs []string `json:"diff_ids"`
			}
		}
		blob(manifest.Config, &config)
		if config.Architecture != m.Platform["architecture"] || config.Config.User != user || config.Created != "2026-11-30T00:02:03Z" ||
			config.Config.Labels["org.opencontainers.image.version"] != "v0.2.0" {
			t.Errorf("%+v", config)
		}
		z, err := gzip.NewReader(bytes.NewReader(blob(manifest.Layers[0], nil)))
		if err != nil {
			t.Fatal(err)
		}
		layer, err := io.ReadAll(z)
		if err != nil || digest(layer) != config.RootFS.DiffIDs[0] {
			t.Fatalf("diff_id %s, %v", config.RootFS.DiffIDs, err)
		}
		inside := untar(t, layer)
		program := inside[strings.TrimPrefix(config.Config.Entrypoint[0], "/")]
		checkFormat(t, name, "linux/"+config.Architecture, program)
		checkSBOM(t, name, "linux/"+config.Architecture, program, made)
		asks := map[string]string{"agent": "--version", "controller": "version"}[name]
		if got := strings.TrimPrefix(output(t, config.Architecture, program, asks), "agent version "); got != "v0.2.0\n" {
			t.Errorf("the %s in the image for %s says that it is %q", name, config.Architecture, got)
		}
		info, err := buildinfo.Read(bytes.NewReader(program))
		if err != nil {
			t.Fatal(err)
		}
		checkLayer(t, layer, name)
		if !slices.ContainsFunc(info.Settings, func(s debug.BuildSetting) bool { return s.Key == "GOARCH" && s.Value == config.Architecture }) {
			t.Errorf("the program in the image for %s is for another processor", config.Architecture)
		}
	}
	if d := cmp.Diff(arches, got); d != "" {
		t.Error(d)
	}
}

// checkLayer: there is nothing but the program and empty directories, all of root's, which only
// root may write, but for what is temporary.
func checkLayer(t *testing.T, layer []byte, program string) {
	t.Helper()
	want := map[string]int64{"etc/": 0o755, "run/": 0o755, "tmp/": 0o1777, program: 0o755}
	for r := tar.NewReader(bytes.NewReader(layer)); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if mode, ok := want[h.Name]; !ok || h.Mode != mode || h.Uid != 0 || h.Gid != 0 || strings.HasSuffix(h.Name, "/") != (h.Typeflag == tar.TypeDir) {
			t.Errorf("%s: type %c, mode %o, of %d:%d", h.Name, h.Typeflag, h.Mode, h.Uid, h.Gid)
		}
		delete(want, h.Name)
	}
	if len(want) > 0 {
		t.Errorf("the image has no %v", want)
	}
}
