package cluster

import (
	"context"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/underlane/underlane/pkg/cli/cluster/chart"
	"github.com/underlane/underlane/pkg/cli/cluster/installation"
	"github.com/underlane/underlane/pkg/mesh"
)

// removable are the kinds and places of an installation's objects, in the order of
// deletion.
var removable = []struct {
	schema.GroupVersionKind
	namespace string // system stands for Underlane's own; empty: cluster-wide
	names     []string
}{
	{GroupVersionKind: kind("apiregistration.k8s.io/v1", "APIService")},
	{kind("apps/v1", "DaemonSet"), system, nil},
	{kind("apps/v1", "Deployment"), system, nil},
	{kind("policy/v1", "PodDisruptionBudget"), system, nil},
	{kind("v1", "Service"), system, nil},
	{kind("monitoring.coreos.com/v1", "PodMonitor"), system, nil},
	{kind("monitoring.coreos.com/v1", "PrometheusRule"), system, nil},
	{kind("coordination.k8s.io/v1", "Lease"), system, []string{installation.Controller}},
	{kind("v1", "ConfigMap"), system, []string{installation.Anchors}},
	{kind("v1", "Secret"), system, []string{installation.Issuer}},
	{kind("rbac.authorization.k8s.io/v1", "RoleBinding"), system, nil},
	{kind("rbac.authorization.k8s.io/v1", "Role"), system, nil},
	{kind("rbac.authorization.k8s.io/v1", "RoleBinding"), metav1.NamespaceSystem, nil},
	{GroupVersionKind: kind("rbac.authorization.k8s.io/v1", "ClusterRoleBinding")},
	{GroupVersionKind: kind("rbac.authorization.k8s.io/v1", "ClusterRole")},
	{kind("v1", "ServiceAccount"), system, nil},
	{GroupVersionKind: kind("apiextensions.k8s.io/v1", "CustomResourceDefinition")}, // its deletion also deletes all its objects
	{GroupVersionKind: kind("v1", "Namespace")},
}

// system stands for the namespace of the installation in removable.
const system = "\x00"

func kind(groupVersion, name string) schema.GroupVersionKind {
	return schema.FromAPIVersionAndKind(groupVersion, name)
}

// installed returns the objects of the installation in the order of deletion. It
// finds the installed objects by label, and those that the controller created by
// name.
func (c *objectClient) installed(ctx context.Context, namespace string) ([]chart.Object, error) {
	var out []chart.Object
	seen := map[string]bool{}
	for _, k := range removable {
		where := k.namespace
		if where == system {
			where = namespace
		}
		r, err := c.resource(k.GroupVersionKind, where)
		if meta.IsNoMatchError(err) {
			continue // for example PodMonitor without the Prometheus operator
		}
		if err != nil {
			return nil, err
		}
		list, err := r.List(ctx, metav1.ListOptions{LabelSelector: installation.Selector})
		if err != nil {
			return nil, fmt.Errorf("look for what is installed: %w", err)
		}
		items := list.Items
		for _, name := range k.names {
			o, err := r.Get(ctx, name, metav1.GetOptions{})
			if apierrors.IsNotFound(err) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("look for what is installed: %w", err)
			}
			items = append(items, *o)
		}
		for i := range items {
			// A namespace with another name belongs to another installation.
			if k.Kind == "Namespace" && items[i].GetName() != namespace {
				continue
			}
			o, err := reference(&items[i], k.GroupVersionKind)
			if err != nil {
				return nil, err
			}
			if !seen[o.Text] { // an object may be found both by label and by name
				seen[o.Text] = true
				out = append(out, o)
			}
		}
	}
	return out, nil
}

// reference reduces an object to the fields that identify it.
func reference(o *unstructured.Unstructured, k schema.GroupVersionKind) (chart.Object, error) {
	metadata := map[string]any{"name": o.GetName()}
	if o.GetNamespace() != "" {
		metadata["namespace"] = o.GetNamespace()
	}
	version, name := k.ToAPIVersionAndKind()
	return chart.NewObject("", map[string]any{"apiVersion": version, "kind": name, "metadata": metadata})
}

// delete deletes an object, which may already be deleted.
func (u *uninstaller) delete(ctx context.Context, o *chart.Object) error {
	r, err := u.objects.resource(o.GroupVersionKind(), o.GetNamespace())
	if err != nil {
		return err
	}
	background := metav1.DeletePropagationBackground
	switch err := r.Delete(ctx, o.GetName(), metav1.DeleteOptions{PropagationPolicy: &background}); {
	case apierrors.IsNotFound(err), apierrors.IsConflict(err): // deleted, or being deleted
		return nil
	case err != nil:
		return fmt.Errorf("delete %s: %w", title(o), err)
	}
	fmt.Fprintf(u.progress, "%s deleted\n", title(o))
	return nil
}

// podsGone waits until no pod with one of these names exists.
func (u *uninstaller) podsGone(ctx context.Context, names ...string) error {
	selector := fmt.Sprintf("%s in (%s)", installation.NameLabel, strings.Join(names, ","))
	return installation.Poll(ctx, u.limit, u.progress, func(ctx context.Context) (string, bool, error) {
		pods, err := u.client.CoreV1().Pods(u.namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
		if err != nil {
			return "", false, fmt.Errorf("wait for pods to end: %w", err)
		}
		left := 0
		for i := range pods.Items {
			// A pod on a lost node stays until the node returns or is deleted. It
			// must not block the others.
			if p := &pods.Items[i]; p.DeletionTimestamp == nil || p.Status.Reason != "NodeLost" {
				left++
			}
		}
		return fmt.Sprintf("waiting for pods to end: %d left", left), left == 0, nil
	})
}

// gone waits until none of the objects exists. The deletion of a namespace takes
// some time.
func (u *uninstaller) gone(ctx context.Context, all []chart.Object) error {
	return installation.Poll(ctx, u.limit, u.progress, func(ctx context.Context) (string, bool, error) {
		for i := range all {
			r, err := u.objects.resource(all[i].GroupVersionKind(), all[i].GetNamespace())
			if err != nil {
				return "", false, err
			}
			if _, err := r.Get(ctx, all[i].GetName(), metav1.GetOptions{}); !apierrors.IsNotFound(err) {
				return fmt.Sprintf("waiting for %s to be gone", title(&all[i])), false, err
			}
		}
		return "Underlane is uninstalled", true, nil
	})
}

// forgetStatus removes the annotations that the controller has written on pods.
func (u *uninstaller) forgetStatus(ctx context.Context) error {
	pods, err := u.client.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("look for annotated pods: %w", err)
	}
	patch := []byte(fmt.Sprintf(`{"metadata":{"annotations":{%q:null,%q:null}}}`, mesh.AnnotationStatus, mesh.AnnotationEnrolled))
	n := 0
	for i := range pods.Items {
		p := &pods.Items[i]
		_, status := p.Annotations[mesh.AnnotationStatus]
		_, enrolled := p.Annotations[mesh.AnnotationEnrolled]
		if !status && !enrolled {
			continue
		}
		_, err := u.client.CoreV1().Pods(p.Namespace).Patch(ctx, p.Name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: fieldManager})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("remove annotation of pod %s/%s: %w", p.Namespace, p.Name, err)
		}
		n++
	}
	if n > 0 {
		fmt.Fprintf(u.progress, "annotation %s removed from %d pods\n", mesh.AnnotationStatus, n)
	}
	return nil
}
