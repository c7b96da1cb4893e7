package supervisor

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/underlane/underlane/test/lab/api"
	"github.com/underlane/underlane/test/lab/manifest"
)

// apply creates or updates the objects of files: first those that pods depend on,
// then the pods.
func (c *cluster) apply(files []manifest.File) ([]string, error) {
	objects, warnings, err := manifest.Parse(files)
	if err != nil {
		return warnings, err
	}
	c.opMu.Lock()
	defer c.opMu.Unlock()
	var errs []error
	for _, o := range objects {
		switch o.Object.(type) {
		case *corev1.Pod, *appsv1.Deployment:
		default:
			errs = append(errs, at(o, c.applyObject(o.Object)))
		}
	}
	errs = append(errs, c.sync())
	var fresh, surplus []*pod
	for _, o := range objects {
		var more, fewer []*pod
		var err error
		switch obj := o.Object.(type) {
		case *corev1.Pod:
			more, err = c.applyPod(obj)
		case *appsv1.Deployment:
			more, fewer, err = c.applyDeployment(obj)
		}
		fresh, surplus = append(fresh, more...), append(surplus, fewer...)
		errs = append(errs, at(o, err))
	}
	errs = append(errs, c.launch(fresh), c.retire(fresh, surplus), c.sync())
	return warnings, errors.Join(errs...)
}

func at(o manifest.Object, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %s: %w", o.Where, o.Key(), err)
}

func (c *cluster) applyObject(obj metav1.Object) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := manifest.Key(obj)
	if s, ok := obj.(*corev1.Service); ok {
		before, _ := c.objects[key].(*corev1.Service)
		if err := c.allotClusterIPs(s, before); err != nil {
			return err
		}
	}
	c.ensureNamespace(obj.GetNamespace(), "")
	c.objects[key] = obj
	return nil
}

// applyPod returns the pod to start, or none if a pod with the same spec runs
// already. Such a pod only gets the new labels and annotations.
func (c *cluster) applyPod(obj *corev1.Pod) ([]*pod, error) {
	spec, err := json.Marshal(obj.Spec)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	before := c.pods[obj.Namespace+"/"+obj.Name]
	same := before != nil && before.applied == string(spec)
	if same {
		before.obj.Labels, before.obj.Annotations = obj.Labels, obj.Annotations
	}
	c.mu.Unlock()
	if same {
		return nil, nil
	}
	if before != nil {
		if err := c.removePod(before); err != nil {
			return nil, err
		}
	}
	p, err := c.preparePod(obj, string(spec))
	if err != nil {
		return nil, err
	}
	return []*pod{p}, nil
}

func (c *cluster) applyDeployment(obj *appsv1.Deployment) (fresh, surplus []*pod, err error) {
	d := &deployment{obj: obj, hash: templateHash(&obj.Spec.Template), set: newUID()}
	c.mu.Lock()
	key := obj.Namespace + "/" + obj.Name
	if before := c.deployments[key]; before != nil && before.hash == d.hash {
		d.set = before.set
	}
	c.deployments[key] = d
	c.mu.Unlock()
	return c.grow(d)
}

// remove deletes the objects of files, pods first.
func (c *cluster) remove(files []manifest.File) error {
	objects, _, err := manifest.Parse(files)
	if err != nil {
		return err
	}
	c.opMu.Lock()
	defer c.opMu.Unlock()
	var pods []*pod
	c.mu.Lock()
	for _, o := range objects {
		pods = append(pods, c.forget(o.Object)...)
	}
	c.mu.Unlock()
	return errors.Join(c.removePods(pods), c.sync())
}

// forget deletes an object from the state and returns the pods to remove with it.
// mu is held.
func (c *cluster) forget(obj metav1.Object) (pods []*pod) {
	key := obj.GetNamespace() + "/" + obj.GetName()
	switch obj.(type) {
	case *corev1.Pod:
		if p := c.pods[key]; p != nil {
			return []*pod{p}
		}
	case *appsv1.Deployment:
		delete(c.deployments, key)
		return c.podsOf(obj.GetNamespace(), obj.GetName())
	default:
		delete(c.objects, manifest.Key(obj))
	}
	return nil
}

// podsOf returns the pods of a deployment. mu is held.
func (c *cluster) podsOf(namespace, name string) (pods []*pod) {
	for _, p := range c.sortedPods() {
		if p.obj.Namespace == namespace && deploymentOf(p.obj) == name {
			pods = append(pods, p)
		}
	}
	return pods
}

// removeTarget removes a deployment or a pod. The deployment of a removed pod
// makes a new one.
func (c *cluster) removeTarget(t api.Target) error {
	c.opMu.Lock()
	defer c.opMu.Unlock()
	c.mu.Lock()
	key := t.Namespace + "/" + t.Name
	var pods []*pod
	var owner *deployment
	switch {
	case t.Kind == "pod" && c.pods[key] != nil:
		pods = []*pod{c.pods[key]}
		owner = c.deployments[t.Namespace+"/"+deploymentOf(c.pods[key].obj)]
	case t.Kind == "deploy" && c.deployments[key] != nil:
		pods = c.forget(c.deployments[key].obj)
	default:
		c.mu.Unlock()
		return missing(t)
	}
	c.mu.Unlock()
	err := c.removePods(pods)
	if owner != nil {
		err = errors.Join(err, c.rollout(owner))
	}
	return errors.Join(err, c.sync())
}

func (c *cluster) scale(t api.Target, replicas int32) error {
	if replicas < 0 {
		return fmt.Errorf("scale to %d replicas", replicas)
	}
	c.opMu.Lock()
	defer c.opMu.Unlock()
	c.mu.Lock()
	d := c.deployments[t.Namespace+"/"+t.Name]
	if d == nil {
		c.mu.Unlock()
		return missing(t)
	}
	d.obj.Spec.Replicas = &replicas
	c.mu.Unlock()
	return errors.Join(c.rollout(d), c.sync())
}

// mark changes labels or annotations of running objects.
func (c *cluster) mark(m api.Mark) error {
	c.opMu.Lock()
	defer c.opMu.Unlock()
	c.mu.Lock()
	var metas []metav1.Object
	key := m.Namespace + "/" + m.Name
	switch m.Kind {
	case "pod":
		if p := c.pods[key]; p != nil {
			metas = append(metas, p.obj)
		}
	case "deploy":
		if d := c.deployments[key]; d != nil {
			metas = append(metas, &d.obj.Spec.Template)
			for _, p := range c.podsOf(m.Namespace, m.Name) {
				metas = append(metas, p.obj)
			}
		}
	case "ns":
		if ns := c.objects["namespace//"+m.Name]; ns != nil {
			metas = append(metas, ns)
		}
	}
	for _, meta := range metas {
		if m.Annotations {
			meta.SetAnnotations(marked(meta.GetAnnotations(), m))
		} else {
			meta.SetLabels(marked(meta.GetLabels(), m))
		}
	}
	c.mu.Unlock()
	if len(metas) == 0 {
		return missing(m.Target)
	}
	return c.sync()
}

func marked(before map[string]string, m api.Mark) map[string]string {
	after := maps.Clone(before)
	if after == nil {
		after = map[string]string{}
	}
	for _, k := range m.Remove {
		delete(after, k)
	}
	maps.Copy(after, m.Set)
	return after
}

func missing(t api.Target) error {
	if t.Kind == "ns" {
		return fmt.Errorf("there is no namespace %q", t.Name)
	}
	return fmt.Errorf("there is no %s %q in namespace %q", t.Kind, t.Name, t.Namespace)
}

func clone(obj metav1.Object) metav1.Object {
	return obj.(runtime.Object).DeepCopyObject().(metav1.Object)
}
