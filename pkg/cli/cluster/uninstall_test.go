package cluster

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"sigs.k8s.io/yaml"

	"github.com/underlane/underlane/pkg/cli/cluster/chart"
	"github.com/underlane/underlane/pkg/cli/cluster/installation"
	"github.com/underlane/underlane/pkg/mesh"
)

// rendered are the objects of a plain installation.
func rendered(t *testing.T) []chart.Object {
	t.Helper()
	objects, err := manifests(t.Context(), installation.DefaultNamespace, map[string]any{"faultInjection": map[string]any{"enabled": true}})
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

// fakeObjects is a cluster that has these objects; PodMonitor is unknown in it.
func fakeObjects(t *testing.T, objects ...runtime.Object) (*objectClient, *dynamicfake.FakeDynamicClient) {
	t.Helper()
	mapper := meta.NewDefaultRESTMapper(nil)
	lists := map[schema.GroupVersionResource]string{}
	for _, k := range removable {
		if k.Kind == "PodMonitor" {
			continue
		}
		scope := meta.RESTScopeNamespace
		if k.namespace == "" {
			scope = meta.RESTScopeRoot
		}
		mapper.Add(k.GroupVersionKind, scope)
		plural, _ := meta.UnsafeGuessKindToResource(k.GroupVersionKind)
		lists[plural] = k.Kind + "List"
	}
	dyn := dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), lists, objects...)
	return &objectClient{dynamic: dyn, mapper: mapper}, dyn
}

// Everything that install makes, and the controller, uninstall finds.
func TestUninstallFindsAll(t *testing.T) {
	var all []runtime.Object
	want := map[string]bool{}
	for _, o := range rendered(t) {
		all = append(all, &o.Unstructured)
		want[title(&o)] = true
	}
	for _, o := range []struct{ version, kind, name string }{
		{"v1", "Secret", installation.Issuer},
		{"v1", "ConfigMap", installation.Anchors},
		{"coordination.k8s.io/v1", "Lease", installation.Controller},
	} {
		u := &unstructured.Unstructured{}
		u.SetAPIVersion(o.version)
		u.SetKind(o.kind)
		u.SetName(o.name)
		u.SetNamespace(installation.DefaultNamespace)
		all = append(all, u)
		want[title(&chart.Object{Unstructured: *u})] = true
	}
	// Not ours.
	foreign := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "foreign", "namespace": installation.DefaultNamespace}}}
	c, _ := fakeObjects(t, append(all, foreign)...)
	found, err := c.installed(t.Context(), installation.DefaultNamespace)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for i := range found {
		if got[title(&found[i])] && found[i].GetKind() != "RoleBinding" {
			t.Errorf("%s twice", title(&found[i]))
		}
		got[title(&found[i])] = true
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if first, last := found[0].GetKind(), found[len(found)-1].GetKind(); first != "APIService" || last != "Namespace" {
		t.Errorf("first %s, last %s", first, last)
	}
}

func TestUninstallRefusesWhileMeshed(t *testing.T) {
	enabled := map[string]string{mesh.LabelMesh: mesh.LabelEnabled}
	client := fake.NewClientset(
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Labels: enabled}},
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "plain"}},
		&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "plain", Name: "web", Labels: enabled}},
		&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "plain", Name: "out", Labels: map[string]string{mesh.LabelMesh: mesh.LabelDisabled}}},
	)
	err := nobodyMeshed(t.Context(), client)
	if err == nil || !strings.HasSuffix(err.Error(), "--force:\n* namespace shop\n* pod plain/web") {
		t.Error(err)
	}
	if err := nobodyMeshed(t.Context(), fake.NewClientset()); err != nil {
		t.Error(err)
	}
}

func agentDaemonSet(t *testing.T) *appsv1.DaemonSet {
	t.Helper()
	for _, o := range rendered(t) {
		if o.GetKind() == "DaemonSet" {
			var d appsv1.DaemonSet
			if err := yaml.UnmarshalStrict([]byte(o.Text), &d); err != nil {
				t.Fatal(err)
			}
			return &d
		}
	}
	t.Fatal("no DaemonSet")
	return nil
}

// The pod that cleans a node has the agent's image, rights and host paths, and
// nothing that could be gone by then.
func TestCleanupPod(t *testing.T) {
	template := agentDaemonSet(t).Spec.Template
	p := cleanupPod(&template, "n", "node-1")
	c := p.Spec.Containers[0]
	if diff := cmp.Diff([]string{"cleanup", "--cgroup-root=auto"}, c.Args); diff != "" {
		t.Error(diff)
	}
	if p.Spec.NodeName != "node-1" || p.Spec.RestartPolicy != corev1.RestartPolicyOnFailure || !p.Spec.HostPID || p.Spec.ServiceAccountName != "" {
		t.Errorf("%+v, want a pod of node-1 without an account, in the host's PID namespace, that restarts on failure", p.Spec)
	}
	if diff := cmp.Diff(template.Spec.Containers[0].SecurityContext, c.SecurityContext); diff != "" {
		t.Error(diff)
	}
	var mounts []string
	for _, m := range c.VolumeMounts {
		mounts = append(mounts, m.Name)
	}
	if diff := cmp.Diff([]string{"run", "bpf", "cgroup", "nri"}, mounts); diff != "" {
		t.Error(diff)
	}
	if len(template.Spec.Volumes) != 5 || len(template.Spec.Containers[0].VolumeMounts) != 5 {
		t.Error("the template was changed")
	}
}

// The whole of it: agents go first, then nodes are cleaned, annotations and the
// rest go; a node that is not ready is named, and keeps nothing else.
func TestUninstallRun(t *testing.T) {
	node := func(name string, ready corev1.ConditionStatus) *corev1.Node {
		return &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelOSStable: "linux"}},
			Status:     corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}}},
		}
	}
	client := fake.NewClientset(
		agentDaemonSet(t), node("good", corev1.ConditionTrue), node("lost", corev1.ConditionUnknown),
		&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", Annotations: map[string]string{mesh.AnnotationStatus: "enrolled", mesh.AnnotationEnrolled: "true", "own": "1"}}},
	)
	var events []string
	client.PrependReactor("create", "pods", func(a clienttesting.Action) (bool, runtime.Object, error) {
		p := a.(clienttesting.CreateAction).GetObject().(*corev1.Pod)
		p.Name, p.Status.Phase = p.GenerateName+p.Spec.NodeName, corev1.PodSucceeded // the fake does neither
		events = append(events, "clean "+p.Spec.NodeName)
		return false, nil, nil
	})
	var all []runtime.Object
	for _, o := range rendered(t) {
		all = append(all, &o.Unstructured)
	}
	objects, dyn := fakeObjects(t, all...)
	dyn.PrependReactor("delete", "*", func(a clienttesting.Action) (bool, runtime.Object, error) {
		events = append(events, "delete "+a.GetResource().Resource)
		return false, nil, nil
	})
	found, err := objects.installed(t.Context(), installation.DefaultNamespace)
	if err != nil {
		t.Fatal(err)
	}
	var progress bytes.Buffer
	u := &uninstaller{client: client, objects: objects, namespace: installation.DefaultNamespace, limit: time.Minute, progress: &progress}
	err = u.run(t.Context(), found)
	if err == nil || !strings.Contains(err.Error(), "not cleaned: lost (not ready)") {
		t.Error(err)
	}
	want := []string{"delete apiservices", "delete daemonsets", "delete deployments", "clean good"}
	if diff := cmp.Diff(want, events[:4]); diff != "" {
		t.Error(diff)
	}
	if last := events[len(events)-1]; last != "delete namespaces" {
		t.Errorf("last: %s", last)
	}
	web, err := client.CoreV1().Pods("shop").Get(t.Context(), "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"own": "1"}, web.Annotations); diff != "" {
		t.Error(diff)
	}
	if left, err := objects.installed(t.Context(), installation.DefaultNamespace); err != nil || len(left) > 0 {
		t.Errorf("left: %v %v", left, err)
	}
	for _, line := range []string{"nodes cleaned: 1 of 1\n", "annotation underlane.io/status removed from 1 pods\n", "Underlane is uninstalled\n"} {
		if !strings.Contains(progress.String(), line) {
			t.Errorf("no %q in\n%s", line, progress.String())
		}
	}
}

// An uninstall that was interrupted after the DaemonSet still knows the pod to
// clean with.
func TestCleanupKnowsTheInstallation(t *testing.T) {
	record, err := configMap("n", map[string]any{"image": map[string]any{"tag": "kept"}})
	if err != nil {
		t.Fatal(err)
	}
	u := &uninstaller{namespace: "n", client: fake.NewClientset(&corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: installation.Config},
		Data:       map[string]string{overridesKey: record.Object["data"].(map[string]any)[overridesKey].(string)},
	})}
	template, err := u.agentTemplate(t.Context())
	if err != nil || template == nil || !strings.HasSuffix(template.Spec.Containers[0].Image, "/agent:kept") {
		t.Errorf("template %v, error %v; want the image of the record", template, err)
	}
	u.client = fake.NewClientset()
	if template, err = u.agentTemplate(t.Context()); err != nil || template != nil {
		t.Errorf("without a record: template %v, error %v; want neither", template, err)
	}
}
