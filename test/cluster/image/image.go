// Package image makes container images of static binaries, as tars in the OCI image
// layout. They have one layer and no base image.
package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Spec is the content of an image.
type Spec struct {
	Ref        string            // registry/name:tag
	Files      map[string]string // path in the image, without the leading slash → file to copy there as an executable
	Entrypoint []string
	User       string // empty: root
}

// Write makes the image and writes it to path as a tar, unless path already has the
// same image. It returns the image's digest.
func Write(path string, s Spec) (string, error) {
	img, err := build(s)
	if err != nil {
		return "", fmt.Errorf("image %s: %w", s.Ref, err)
	}
	digest, err := img.Digest()
	if err != nil {
		return "", err
	}
	if old, err := Digest(path); err == nil && old == digest.String() {
		return old, nil
	}
	if err := writeLayout(path, s.Ref, img); err != nil {
		return "", fmt.Errorf("image %s: %w", s.Ref, err)
	}
	return digest.String(), os.WriteFile(path+digestSuffix, []byte(digest.String()), 0o644)
}

// digestSuffix is the suffix of the file, beside a tar, that has the tar's digest.
const digestSuffix = ".digest"

// Digest returns the digest of the image in a tar that Write has written. It is empty
// for any other tar.
func Digest(path string) (string, error) {
	if _, err := os.Stat(path); err != nil {
		return "", err
	}
	text, err := os.ReadFile(path + digestSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return string(text), err
}

func build(s Spec) (v1.Image, error) {
	content, err := layerTar(s.Files)
	if err != nil {
		return nil, err
	}
	// Not compressed, because it does not leave this disk.
	layer := static.NewLayer(content, types.OCIUncompressedLayer)
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err := mutate.AppendLayers(base, layer)
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", goarch
	config.Config.Entrypoint = s.Entrypoint
	config.Config.User = s.User
	config.Config.Env = []string{"PATH=/"}
	return mutate.ConfigFile(img, config)
}

// layerTar returns a layer. The bytes depend only on the files, not on the time.
func layerTar(files map[string]string) ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, dir := range []struct {
		name string
		mode int64
	}{{"etc/", 0o755}, {"run/", 0o755}, {"tmp/", 0o1777}} {
		if err := w.WriteHeader(&tar.Header{Name: dir.name, Typeflag: tar.TypeDir, Mode: dir.mode}); err != nil {
			return nil, err
		}
	}
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		text, err := os.ReadFile(files[name])
		if err != nil {
			return nil, err
		}
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(text))}); err != nil {
			return nil, err
		}
		if _, err := w.Write(text); err != nil {
			return nil, err
		}
	}
	return buf.Bytes(), w.Close()
}

// writeLayout writes an OCI image layout as a tar. containerd takes the image's name
// from the annotation.
func writeLayout(path, ref string, img v1.Image) error {
	dir, err := os.MkdirTemp(filepath.Dir(path), "layout-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	l, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	names := map[string]string{"io.containerd.image.name": ref, "org.opencontainers.image.ref.name": ref}
	if err := l.AppendImage(img, layout.WithAnnotations(names)); err != nil {
		return err
	}
	tmp := dir + ".tar"
	if err := tarDir(tmp, dir); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return os.Rename(tmp, path)
}

func tarDir(path, dir string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w := tar.NewWriter(f)
	err = filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, file)
		if err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))}); err != nil {
			return err
		}
		_, err = w.Write(text)
		return err
	})
	return errors.Join(err, w.Close(), f.Close())
}
