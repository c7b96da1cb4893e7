// Package chart renders the embedded Helm chart to manifests, with the same result
// as Helm.
package chart

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/loader/archive"
	v2 "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	"helm.sh/helm/v4/pkg/strvals"
	"sigs.k8s.io/yaml"

	"github.com/underlane/underlane/daemonset"
)

// HAFile is the chart's values file for high availability.
const HAFile = "values-ha.yaml"

// Load reads the embedded chart.
func Load() (*v2.Chart, error) {
	all, err := Files()
	if err != nil {
		return nil, err
	}
	var files []*archive.BufferedFile
	for _, name := range slices.Sorted(maps.Keys(all)) {
		files = append(files, &archive.BufferedFile{Name: name, Data: all[name]})
	}
	c, err := loader.LoadFiles(files)
	if err != nil {
		return nil, fmt.Errorf("embedded chart: %w", err)
	}
	return c, nil
}

// File returns the text of a file of the chart.
func File(name string) ([]byte, error) {
	data, err := daemonset.Chart.ReadFile(daemonset.ChartRoot + "/" + name)
	if err != nil {
		return nil, fmt.Errorf("embedded chart: %w", err)
	}
	return data, nil
}

// Render renders the chart for a namespace. values have precedence over the chart's
// own. Unknown keys and values of a wrong type are errors. The objects are in the
// order in which they must be created.
func Render(ctx context.Context, namespace string, values map[string]any) ([]Object, error) {
	c, err := Load()
	if err != nil {
		return nil, err
	}
	release := common.ReleaseOptions{Name: "underlane", Namespace: namespace, IsInstall: true}
	all, err := util.ToRenderValues(c, values, release, common.DefaultCapabilities)
	if err != nil {
		return nil, fmt.Errorf("values: %w", err)
	}
	texts, err := engine.Engine{}.RenderWithContext(ctx, c, all)
	if err != nil {
		return nil, fmt.Errorf("render chart: %w", err)
	}
	var objects []Object
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		if !strings.HasSuffix(name, ".yaml") {
			continue
		}
		more, err := split(texts[name])
		if err != nil {
			return nil, fmt.Errorf("render chart: %s: %w", name, err)
		}
		objects = append(objects, more...)
	}
	return Sort(objects), nil
}

// ParseValues parses values in YAML.
func ParseValues(text []byte) (map[string]any, error) {
	values := map[string]any{}
	if err := yaml.Unmarshal(text, &values); err != nil {
		return nil, err
	}
	return values, nil
}

// Merge returns base with the values of over added. Maps are merged, other values
// are replaced. It changes neither argument.
func Merge(base, over map[string]any) map[string]any { return loader.MergeMaps(base, over) }

// Set adds the values of a --set argument (a.b=1,c[0]=x) to values. With text,
// every value is a string.
func Set(values map[string]any, argument string, text bool) error {
	parse := strvals.ParseInto
	if text {
		parse = strvals.ParseIntoString
	}
	if err := parse(argument, values); err != nil {
		return fmt.Errorf("--set %s: %w", argument, err)
	}
	return nil
}
