package supervisor

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"

	"github.com/underlane/underlane/test/slow"
)

var rolloutPatience = slow.Times(30 * time.Second)

// deploymentOf returns the name of the Deployment that a pod belongs to, "" if
// there is none. The pod's owner is the ReplicaSet <deployment>-<hash>.
func deploymentOf(obj *corev1.Pod) string {
	for _, ref := range obj.OwnerReferences {
		if hash := obj.Labels[appsv1.DefaultDeploymentUniqueLabelKey]; ref.Kind == "ReplicaSet" && hash != "" {
			return strings.TrimSuffix(ref.Name, "-"+hash)
		}
	}
	return ""
}

// templateHash returns a hash that identifies a template, like pod-template-hash.
func templateHash(t *corev1.PodTemplateSpec) string {
	text, _ := json.Marshal(t) // cannot fail for plain data
	h := fnv.New32a()
	h.Write(text)
	return rand.SafeEncodeString(fmt.Sprint(h.Sum32()))
}

// podOf makes a pod of a deployment.
func podOf(d *deployment) *corev1.Pod {
	t := d.obj.Spec.Template.DeepCopy()
	set := d.obj.Name + "-" + d.hash
	yes := true
	p := &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: t.ObjectMeta,
		Spec:       t.Spec,
	}
	p.Name, p.Namespace, p.GenerateName = set+"-"+rand.String(5), d.obj.Namespace, set+"-"
	p.Labels = maps.Clone(t.Labels)
	p.Labels[appsv1.DefaultDeploymentUniqueLabelKey] = d.hash
	p.OwnerReferences = []metav1.OwnerReference{{
		APIVersion: "apps/v1", Kind: "ReplicaSet", Name: set,
		UID: d.set, Controller: &yes, BlockOwnerDeletion: &yes,
	}}
	return p
}

// rollout brings the pods of a deployment to its number of replicas and its
// template. It first starts the missing pods, and then removes surplus ones and
// those of an older template.
func (c *cluster) rollout(d *deployment) error {
	fresh, surplus, err := c.grow(d)
	if err != nil {
		return err
	}
	return errors.Join(c.launch(fresh), c.retire(fresh, surplus))
}

// grow prepares the missing pods of a deployment, and returns them together with
// its surplus pods.
func (c *cluster) grow(d *deployment) (fresh, surplus []*pod, err error) {
	c.mu.Lock()
	var current []*pod
	for _, p := range c.podsOf(d.obj.Namespace, d.obj.Name) {
		switch {
		case p.deleting:
		case p.obj.Labels[appsv1.DefaultDeploymentUniqueLabelKey] == d.hash:
			current = append(current, p)
		default:
			surplus = append(surplus, p)
		}
	}
	want := int(*d.obj.Spec.Replicas)
	c.mu.Unlock()
	for range want - len(current) {
		p, err := c.preparePod(podOf(d), "")
		if err != nil {
			return fresh, nil, fmt.Errorf("deployment %s/%s: %w", d.obj.Namespace, d.obj.Name, err)
		}
		fresh = append(fresh, p)
	}
	if len(current) > want {
		surplus = append(surplus, current[want:]...)
	}
	return fresh, surplus, nil
}

// launch starts the programs of prepared pods after the controller knows the pods
// and the meshed ones are enrolled. A pod's first connection is then in the mesh,
// as in a cluster where a CNI plugin waits for the agent.
func (c *cluster) launch(pods []*pod) error {
	if len(pods) == 0 {
		return nil
	}
	err := c.sync()
	c.awaitEnrolled(pods)
	for _, p := range pods {
		c.startPod(p)
	}
	return err
}

// retire removes pods when their replacements are ready.
func (c *cluster) retire(fresh, surplus []*pod) error {
	if len(surplus) > 0 {
		c.awaitPods(fresh, rolloutPatience)
	}
	return c.removePods(surplus)
}

// awaitPods waits up to patience until pods are ready.
func (c *cluster) awaitPods(pods []*pod, patience time.Duration) {
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		c.mu.Lock()
		waiting := slices.ContainsFunc(pods, func(p *pod) bool { return !isReady(p.obj) })
		c.mu.Unlock()
		if !waiting {
			return
		}
		time.Sleep(pollUnready)
	}
	c.log.Warn("new pods are not ready, old ones are removed all the same")
}

// removePods removes pods concurrently, because each may use its grace period.
func (c *cluster) removePods(pods []*pod) error {
	errs := make(chan error, len(pods))
	for _, p := range pods {
		go func() { errs <- c.removePod(p) }()
	}
	var err error
	for range pods {
		err = errors.Join(err, <-errs)
	}
	return err
}
