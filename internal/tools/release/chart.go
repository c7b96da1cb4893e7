package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/underlane/underlane/pkg/cli/cluster"
	"github.com/underlane/underlane/pkg/cli/cluster/chart"
	"github.com/underlane/underlane/pkg/cli/cluster/installation"
	"github.com/underlane/underlane/pkg/release"
)

// chart writes the chart's package and the index of the Helm repository.
func (o *options) chart() error {
	files, err := chart.Files()
	if err != nil {
		return err
	}
	packed := map[string][]byte{}
	for name, data := range files {
		packed["underlane/"+name] = data
	}
	content, err := tarOf(packed, o.time)
	if err != nil {
		return err
	}
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	if _, err := z.Write(content); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	name := "underlane-" + strings.TrimPrefix(o.Version, "v") + ".tgz"
	if err := os.WriteFile(filepath.Join(o.dir(), name), buf.Bytes(), 0o644); err != nil {
		return err
	}
	return o.index(files["Chart.yaml"], name, digest(buf.Bytes()))
}

// index writes charts/index.yaml with the chart first, and the previous ones.
func (o *options) index(metadata []byte, name, digest string) error {
	entry := map[string]any{}
	if err := yaml.Unmarshal(metadata, &entry); err != nil {
		return err
	}
	entry["urls"] = []string{o.BaseURL + "/" + o.Version + "/" + name}
	entry["digest"] = strings.TrimPrefix(digest, "sha256:")
	entry["created"] = o.time.Format(time.RFC3339)
	entries := []any{entry}
	text, err := o.previous("charts/index.yaml")
	if err != nil {
		return err
	}
	var old struct {
		Entries map[string][]map[string]any `json:"entries"`
	}
	if err := yaml.Unmarshal(text, &old); err != nil {
		return fmt.Errorf("previous charts/index.yaml: %w", err)
	}
	for _, e := range old.Entries["underlane"] {
		if e["version"] != entry["version"] {
			entries = append(entries, e)
		}
	}
	text, err = yaml.Marshal(map[string]any{
		"apiVersion": "v1", "generated": o.time.Format(time.RFC3339), "entries": map[string]any{"underlane": entries},
	})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(o.Out, "charts/index.yaml"), text, 0o644)
}

// previous reads a file of the releases before. It returns nil if there is none.
func (o *options) previous(name string) ([]byte, error) {
	if o.Previous == "" {
		return nil, nil
	}
	text, err := os.ReadFile(filepath.Join(o.Previous, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return text, err
}

// manifest writes what `underlane install --ignore-cluster` of this release prints,
// without its record of values.
func (o *options) manifest(ctx context.Context) error {
	objects, err := chart.Render(ctx, installation.DefaultNamespace, cluster.InstallDefaults())
	if err != nil {
		return err
	}
	header := "# Underlane " + o.Version + "\n# kubectl apply -f underlane-" + o.Version + ".yaml\n"
	return os.WriteFile(filepath.Join(o.dir(), "underlane-"+o.Version+".yaml"), append([]byte(header), chart.YAML(objects)...), 0o644)
}

// channel writes the files of the channels that have this release as their newest. A
// stable release is that of the channel edge too, until a newer edge is made.
func (o *options) channel() error {
	r := release.Release{
		Version: o.Version, Date: o.time.Format(time.DateOnly), UpgradeFrom: release.UpgradesFrom(o.Version),
		Needs: release.Needs{Kubernetes: "1.30", Linux: "5.15"},
	}
	for _, name := range []string{release.Stable, release.Edge} {
		if o.Channel == release.Edge && name == release.Stable {
			continue
		}
		c, err := o.previousChannel(name)
		if err != nil {
			return err
		}
		next, err := c.With(r)
		switch {
		case err != nil && name != o.Channel:
			next = c // its newest is newer than this
		case err != nil:
			return err
		}
		text, err := next.Text()
		if err != nil {
			return err
		}
		if err := o.signed(filepath.Join(o.Out, "channels", name+".json"), text); err != nil {
			return err
		}
	}
	return nil
}

// previousChannel reads the file of a channel of the releases before, which may come from
// a server. What it says is signed again, so it has to have the signature of this key, or of that
// of the releases before.
func (o *options) previousChannel(name string) (release.Channel, error) {
	path := "channels/" + name + ".json"
	text, err := o.previous(path)
	if err != nil || text == nil {
		return release.Channel{Channel: name}, err
	}
	signature, err := o.previous(path + release.SignatureSuffix)
	if err == nil {
		err = release.Verify(encoded(o.before), text, signature)
	}
	if err != nil {
		return release.Channel{}, fmt.Errorf("previous %s: %w", path, err)
	}
	return release.ParseChannel(name, text)
}
