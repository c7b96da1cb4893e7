package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"

	"github.com/underlane/underlane/internal/version"
	"github.com/underlane/underlane/pkg/cli/cluster/chart"
	"github.com/underlane/underlane/pkg/cli/cluster/installation"
)

const overridesKey = "overrides.yaml"

// configMap records the values that the user has set, so that an upgrade keeps
// them. It does not record keys: they are in the Secret, which an upgrade does not
// change.
func configMap(namespace string, overrides map[string]any) (chart.Object, error) {
	kept, err := withoutKeys(overrides)
	if err != nil {
		return chart.Object{}, err
	}
	values, err := yaml.Marshal(kept)
	if err != nil {
		return chart.Object{}, fmt.Errorf("record values: %w", err)
	}
	return chart.NewObject("# What the installation was told; `underlane upgrade` starts from it.\n", map[string]any{
		"apiVersion": "v1",
		"kind":       "ConfigMap",
		"metadata": map[string]any{
			"name": installation.Config, "namespace": namespace,
			"labels": map[string]any{installation.PartOfLabel: installation.PartOf},
		},
		"data": map[string]any{overridesKey: string(values), "cli-version": version.Version},
	})
}

// withoutKeys replaces the PEM texts of an issuer by the statement that an issuer
// exists.
func withoutKeys(overrides map[string]any) (map[string]any, error) {
	text, err := yaml.Marshal(overrides) // makes a deep copy
	if err != nil {
		return nil, err
	}
	kept, err := chart.ParseValues(text)
	if err != nil {
		return nil, err
	}
	identity, _ := kept["identity"].(map[string]any)
	issuer, _ := identity["issuer"].(map[string]any)
	if key, _ := issuer["keyPEM"].(string); key != "" {
		identity["issuer"] = map[string]any{"existing": true}
	}
	return kept, nil
}

// installed reads the values with which the user has installed Underlane.
func installed(ctx context.Context, client kubernetes.Interface, namespace string) (map[string]any, error) {
	record, err := client.CoreV1().ConfigMaps(namespace).Get(ctx, installation.Config, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, notByCommand(ctx, client, namespace)
	}
	if err != nil {
		return nil, fmt.Errorf("read what was installed: %w", err)
	}
	values, err := chart.ParseValues([]byte(record.Data[overridesKey]))
	if err != nil {
		return nil, fmt.Errorf("ConfigMap %s/%s, key %s: %w", namespace, installation.Config, overridesKey, err)
	}
	return values, nil
}

// notByCommand returns an error that explains why there is no record.
func notByCommand(ctx context.Context, client kubernetes.Interface, namespace string) error {
	d, err := client.AppsV1().Deployments(namespace).Get(ctx, installation.Controller, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return fmt.Errorf("no Underlane in namespace %s: use `underlane install`, or say with --underlane-namespace where it is", namespace)
	case err != nil:
		return fmt.Errorf("look for Underlane: %w", err)
	case strings.EqualFold(d.Labels["app.kubernetes.io/managed-by"], "Helm"), d.Annotations["meta.helm.sh/release-name"] != "":
		return errors.New("it was installed with Helm: upgrade it with `helm upgrade`")
	}
	return fmt.Errorf("ConfigMap %s/%s is missing: give all values that the installation has to `underlane install --ignore-cluster | kubectl apply -f -`", namespace, installation.Config)
}
