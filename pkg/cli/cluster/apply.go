package cluster

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/restmapper"

	"github.com/underlane/underlane/pkg/cli/cluster/chart"
	"github.com/underlane/underlane/pkg/cli/cluster/installation"
)

// fieldManager is the field manager of server-side apply, which owns the applied
// fields.
const fieldManager = "underlane"

// objectClient reads and writes objects of any kind.
type objectClient struct {
	dynamic dynamic.Interface
	mapper  meta.RESTMapper
}

func (f *Flags) objects() (*objectClient, error) {
	dyn, err := f.Dynamic()
	if err != nil {
		return nil, err
	}
	client, err := f.Client()
	if err != nil {
		return nil, err
	}
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(client.Discovery()))
	return &objectClient{dynamic: dyn, mapper: mapper}, nil
}

func (c *objectClient) resource(gvk schema.GroupVersionKind, namespace string) (dynamic.ResourceInterface, error) {
	m, err := c.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if err != nil {
		return nil, fmt.Errorf("kind %s: %w", gvk.Kind, err)
	}
	if m.Scope.Name() == meta.RESTScopeNameRoot {
		return c.dynamic.Resource(m.Resource), nil
	}
	return c.dynamic.Resource(m.Resource).Namespace(namespace), nil
}

// apply applies the objects, prints a line for each, and waits until the controller
// and the agents run in the applied version.
func (f *Flags) apply(ctx context.Context, objects []chart.Object, wait time.Duration, progress io.Writer) error {
	c, err := f.objects()
	if err != nil {
		return err
	}
	for i := range objects {
		o := &objects[i]
		what, err := c.apply(ctx, o)
		if err != nil {
			return fmt.Errorf("apply %s: %w", title(o), err)
		}
		fmt.Fprintf(progress, "%s %s\n", title(o), what)
	}
	if wait == 0 {
		return nil
	}
	client, err := f.Client()
	if err != nil {
		return err
	}
	return installation.AwaitRollout(ctx, client, f.System, wait, progress)
}

// apply applies one object and returns the result in kubectl's words.
func (c *objectClient) apply(ctx context.Context, o *chart.Object) (string, error) {
	r, err := c.resource(o.GroupVersionKind(), o.GetNamespace())
	if err != nil {
		return "", err
	}
	before, err := r.Get(ctx, o.GetName(), metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return "", err
	}
	existed := err == nil
	// Fields that other managers own and the chart does not render stay unchanged
	// (the tap API's caBundle, a HorizontalPodAutoscaler's replicas). The rendered
	// fields are overwritten.
	after, err := r.Apply(ctx, o.GetName(), &o.Unstructured, metav1.ApplyOptions{FieldManager: fieldManager, Force: true})
	switch {
	case err != nil:
		return "", err
	case !existed:
		return "created", nil
	case before.GetResourceVersion() == after.GetResourceVersion():
		return "unchanged", nil
	}
	return "configured", nil
}

// title returns an object's name in kubectl's form: deployment.apps/web.
func title(o *chart.Object) string {
	kind := strings.ToLower(o.GetKind())
	if group := o.GroupVersionKind().Group; group != "" {
		kind += "." + group
	}
	return kind + "/" + o.GetName()
}
