package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/underlane/underlane/pkg/cli/cluster/installation"
)

const cleanupName = "underlane-cleanup"

// agentTemplate returns the pod template of the agents. If the DaemonSet is already
// deleted (by an interrupted uninstall), it renders the template from the record of
// the installation. It returns nil when neither exists.
func (u *uninstaller) agentTemplate(ctx context.Context) (*corev1.PodTemplateSpec, error) {
	d, err := u.client.AppsV1().DaemonSets(u.namespace).Get(ctx, installation.Agent, metav1.GetOptions{})
	switch {
	case err == nil:
		return &d.Spec.Template, nil
	case !apierrors.IsNotFound(err):
		return nil, fmt.Errorf("look for the agents: %w", err)
	}
	overrides, err := installed(ctx, u.client, u.namespace)
	if err != nil {
		return nil, nil //nolint:nilerr // there is no record: not by this command, or it is gone too
	}
	objects, err := manifests(ctx, u.namespace, overrides)
	if err != nil {
		return nil, err
	}
	for i := range objects {
		if objects[i].GetKind() == "DaemonSet" {
			var d appsv1.DaemonSet
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(objects[i].Object, &d); err != nil {
				return nil, err
			}
			return &d.Spec.Template, nil
		}
	}
	return nil, nil
}

// cleanupPod returns a pod with the agent's image, mounts and permissions that runs
// `agent cleanup` once on a node instead of the agent.
func cleanupPod(t *corev1.PodTemplateSpec, namespace, node string) *corev1.Pod {
	spec := *t.Spec.DeepCopy()
	spec.NodeName = node // without the scheduler, so that it also runs on cordoned nodes
	spec.NodeSelector, spec.Affinity = nil, nil
	spec.RestartPolicy = corev1.RestartPolicyOnFailure
	spec.ServiceAccountName, spec.DeprecatedServiceAccount = "", ""
	c := spec.Containers[0]
	c.Name = "cleanup"
	// The agent's flags name the directory of the pins.
	args := []string{"cleanup"}
	for _, a := range c.Args {
		for _, shared := range []string{"--pin-root=", "--cgroup-root=", "--socket="} {
			if strings.HasPrefix(a, shared) {
				args = append(args, a)
			}
		}
	}
	c.Args, c.Ports, c.Env = args, nil, nil
	c.StartupProbe, c.LivenessProbe, c.ReadinessProbe = nil, nil, nil
	// The cleanup does not need certificates and token, which may be deleted.
	host := func(name string) bool {
		return slices.ContainsFunc(spec.Volumes, func(v corev1.Volume) bool { return v.Name == name && v.HostPath != nil })
	}
	c.VolumeMounts = slices.DeleteFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return !host(m.Name) })
	spec.Volumes = slices.DeleteFunc(spec.Volumes, func(v corev1.Volume) bool { return v.HostPath == nil })
	spec.Containers, spec.InitContainers = []corev1.Container{c}, nil
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			GenerateName: cleanupName + "-", Namespace: namespace,
			Labels: map[string]string{installation.PartOfLabel: installation.PartOf, installation.NameLabel: cleanupName},
		},
		Spec: spec,
	}
}

// cleanNodes removes pins and programs from every reachable node. It runs a pod on
// each.
func (u *uninstaller) cleanNodes(ctx context.Context, t *corev1.PodTemplateSpec) error {
	nodes, err := u.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{LabelSelector: labels.SelectorFromSet(t.Spec.NodeSelector).String()})
	if err != nil {
		return fmt.Errorf("list nodes: %w", err)
	}
	defer u.dropCleanupPods(context.WithoutCancel(ctx))
	var left []string
	pods := map[string]string{} // name of the node by name of the pod
	for i := range nodes.Items {
		n := &nodes.Items[i]
		if !installation.NodeReady(n) {
			left = append(left, n.Name+" (not ready)")
			continue
		}
		p, err := u.client.CoreV1().Pods(u.namespace).Create(ctx, cleanupPod(t, u.namespace, n.Name), metav1.CreateOptions{})
		if err != nil {
			return fmt.Errorf("clean node %s: %w", n.Name, err)
		}
		pods[p.Name] = n.Name
	}
	err = installation.Poll(ctx, u.limit, u.progress, func(ctx context.Context) (string, bool, error) {
		list, err := u.client.CoreV1().Pods(u.namespace).List(ctx, metav1.ListOptions{LabelSelector: installation.NameLabel + "=" + cleanupName})
		if err != nil {
			return "", false, err
		}
		done, why := 0, ""
		for i := range list.Items {
			p := &list.Items[i]
			if pods[p.Name] == "" {
				continue
			}
			if p.Status.Phase == corev1.PodSucceeded {
				done++
			} else if w := installation.NotReady(p); w != "" && p.Status.Phase != corev1.PodPending {
				why = fmt.Sprintf(" (%s: %s)", pods[p.Name], w)
			}
		}
		return fmt.Sprintf("nodes cleaned: %d of %d%s", done, len(pods), why), done == len(pods), nil
	})
	if len(left) > 0 {
		err = errors.Join(err, fmt.Errorf("not cleaned: %s: pins are gone after the node's next boot, or after `agent cleanup` on it", strings.Join(left, ", ")))
	}
	return err
}

func (u *uninstaller) dropCleanupPods(ctx context.Context) {
	now := int64(0)
	err := u.client.CoreV1().Pods(u.namespace).DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: &now},
		metav1.ListOptions{LabelSelector: installation.NameLabel + "=" + cleanupName})
	if err != nil {
		fmt.Fprintln(u.progress, "delete the pods that cleaned the nodes:", err)
	}
}
