package chart

import (
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"

	"github.com/underlane/underlane/daemonset"
	"github.com/underlane/underlane/internal/version"
)

// Files returns the files of the embedded chart, by their paths in it. In a release
// the chart has the release's version, and so runs the images of that version.
func Files() (map[string][]byte, error) {
	files := map[string][]byte{}
	err := fs.WalkDir(daemonset.Chart, daemonset.ChartRoot, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := daemonset.Chart.ReadFile(path)
		files[strings.TrimPrefix(path, daemonset.ChartRoot+"/")] = data
		return err
	})
	if err == nil && version.Channel != "" {
		files["Chart.yaml"], err = released(files["Chart.yaml"], version.Version)
	}
	if err != nil {
		return nil, fmt.Errorf("embedded chart: %w", err)
	}
	return files, nil
}

var versionLines = regexp.MustCompile(`(?m)^(version|appVersion): .*$`)

// released returns Chart.yaml with the version of a release, such as v0.2.0. Helm's
// versions have no v; images are tagged as the programs in them call themselves.
func released(chart []byte, version string) ([]byte, error) {
	if n := len(versionLines.FindAll(chart, -1)); n != 2 {
		return nil, fmt.Errorf("%d lines of versions in Chart.yaml, not 2", n)
	}
	return versionLines.ReplaceAllFunc(chart, func(line []byte) []byte {
		if strings.HasPrefix(string(line), "version") {
			return []byte("version: " + strings.TrimPrefix(version, "v"))
		}
		return []byte(`appVersion: "` + version + `"`)
	}), nil
}

// Registry returns where the chart's images come from by default.
func Registry() (string, error) {
	text, err := File("values.yaml")
	if err != nil {
		return "", err
	}
	values, err := ParseValues(text)
	if err != nil {
		return "", err
	}
	image, _ := values["image"].(map[string]any)
	registry, _ := image["registry"].(string)
	if registry == "" {
		return "", errors.New("values.yaml of the chart names no image.registry")
	}
	return registry, nil
}
