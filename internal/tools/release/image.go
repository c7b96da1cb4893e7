package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/underlane/underlane/pkg/cli/cluster/chart"
)

// image is a program that runs in pods. There is nothing but it in its image.
type image struct {
	name, title, user string
}

// The agent loads BPF programs and makes sockets in pods' namespaces, which needs root.
var imagesOf = []image{
	{name: "agent", title: "Underlane's agent of a node", user: "0:0"},
	{name: "controller", title: "Underlane's controller", user: "65532:65532"},
}

// images writes an image of each program with all of its platforms in one index.
func (o *options) images() error {
	registry, err := chart.Registry()
	if err != nil {
		return err
	}
	for _, i := range imagesOf {
		l := newLayout()
		var all []descriptor
		for _, p := range o.selected() {
			arch, ok := strings.CutPrefix(p, "linux/")
			if !ok {
				continue
			}
			program, err := os.ReadFile(o.built(i.name, p))
			if err != nil {
				return err
			}
			d, err := l.image(i, o, arch, program)
			if err != nil {
				return err
			}
			all = append(all, d)
		}
		if len(all) == 0 {
			continue
		}
		text, err := l.tar(all, registry+"/"+i.name, o)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(o.dir(), i.name+"-"+o.Version+".oci.tar"), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Media types of https://github.com/opencontainers/image-spec, version 1.1.
const (
	indexType    = "application/vnd.oci.image.index.v1+json"
	manifestType = "application/vnd.oci.image.manifest.v1+json"
	configType   = "application/vnd.oci.image.config.v1+json"
	layerType    = "application/vnd.oci.image.layer.v1.tar+gzip"
)

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Platform    map[string]string `json:"platform,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// layout is an OCI image layout: blobs by their digests.
type layout struct{ blobs map[string][]byte }

func newLayout() *layout { return &layout{map[string][]byte{}} }

func digest(data []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(data)) }

func (l *layout) blob(mediaType string, data []byte) descriptor {
	d := digest(data)
	l.blobs[d] = data
	return descriptor{MediaType: mediaType, Digest: d, Size: len(data)}
}

func (l *layout) json(mediaType string, v any) (descriptor, error) {
	data, err := json.Marshal(v) // the keys of maps are sorted
	return l.blob(mediaType, data), err
}

// image adds the image of a program for a processor.
func (l *layout) image(i image, o *options, arch string, program []byte) (descriptor, error) {
	content, err := layerTar(i.name, program, o.time)
	if err != nil {
		return descriptor{}, err
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed) // without a name and a time
	if _, err := z.Write(content); err != nil {
		return descriptor{}, err
	}
	if err := z.Close(); err != nil {
		return descriptor{}, err
	}
	labels := map[string]string{
		"org.opencontainers.image.title":    i.title,
		"org.opencontainers.image.version":  o.Version,
		"org.opencontainers.image.revision": o.Revision,
		"org.opencontainers.image.created":  o.time.Format(time.RFC3339),
		"org.opencontainers.image.source":   "https://github.com/underlane/underlane",
		"org.opencontainers.image.licenses": "Apache-2.0",
	}
	if i.name == "agent" { // it has the eBPF programs
		labels["org.opencontainers.image.licenses"] = "Apache-2.0 AND (GPL-2.0-only OR BSD-2-Clause)"
	}
	config, err := l.json(configType, map[string]any{
		"created": o.time.Format(time.RFC3339), "os": "linux", "architecture": arch,
		"config": map[string]any{
			"User": i.user, "Entrypoint": []string{"/" + i.name}, "Env": []string{"PATH=/"}, "Labels": labels,
		},
		"rootfs":  map[string]any{"type": "layers", "diff_ids": []string{digest(content)}},
		"history": []map[string]string{{"created": o.time.Format(time.RFC3339), "created_by": "make release"}},
	})
	if err != nil {
		return descriptor{}, err
	}
	d, err := l.json(manifestType, map[string]any{
		"schemaVersion": 2, "mediaType": manifestType, "config": config,
		"layers": []descriptor{l.blob(layerType, packed.Bytes())}, "annotations": labels,
	})
	d.Platform = map[string]string{"os": "linux", "architecture": arch}
	return d, err
}

// layerTar is the content of an image: the program, and the directories that a pod
// may mount something on.
func layerTar(name string, program []byte, at time.Time) ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range []tar.Header{
		{Name: "etc/", Mode: 0o755, Typeflag: tar.TypeDir},
		{Name: "run/", Mode: 0o755, Typeflag: tar.TypeDir},
		{Name: "tmp/", Mode: 0o1777, Typeflag: tar.TypeDir},
		{Name: name, Mode: 0o755, Typeflag: tar.TypeReg, Size: int64(len(program))},
	} {
		h.ModTime = at
		if err := w.WriteHeader(&h); err != nil {
			return nil, err
		}
	}
	if _, err := w.Write(program); err != nil {
		return nil, err
	}
	return buf.Bytes(), w.Close()
}

// tar returns the layout with one index of all images, which containerd and others call
// by the version's name.
func (l *layout) tar(all []descriptor, repository string, o *options) ([]byte, error) {
	index, err := l.json(indexType, map[string]any{"schemaVersion": 2, "mediaType": indexType, "manifests": all})
	if err != nil {
		return nil, err
	}
	index.Annotations = map[string]string{
		"io.containerd.image.name":          repository + ":" + o.Version,
		"org.opencontainers.image.ref.name": o.Version,
	}
	top, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": indexType, "manifests": []descriptor{index}})
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{"oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`), "index.json": top}
	for d, data := range l.blobs {
		files["blobs/sha256/"+strings.TrimPrefix(d, "sha256:")] = data
	}
	return tarOf(files, o.time)
}

// tarOf returns a tar of files, whose bytes depend only on them and on the time.
func tarOf(files map[string][]byte, at time.Time) ([]byte, error) {
	var names []string
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, name := range names {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(files[name])), ModTime: at, Typeflag: tar.TypeReg}); err != nil {
			return nil, err
		}
		if _, err := w.Write(files[name]); err != nil {
			return nil, err
		}
	}
	return buf.Bytes(), w.Close()
}
