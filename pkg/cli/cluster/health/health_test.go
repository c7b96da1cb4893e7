package health

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/timestamppb"
	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"
	fakediscovery "k8s.io/client-go/discovery/fake"
	"k8s.io/client-go/dynamic"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/kubernetes/scheme"
	clienttesting "k8s.io/client-go/testing"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/cli/check"
	"github.com/underlane/underlane/pkg/cli/cluster/certs/certstest"
	"github.com/underlane/underlane/pkg/cli/cluster/installation"
	"github.com/underlane/underlane/pkg/mesh"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// sick is a cluster that each test spoils in one place.
type sick struct {
	kubernetes string
	may        func(verb, resource string) bool
	nodes      []*corev1.Node
	leases     map[string]time.Time
	objects    []runtime.Object
	deployment *appsv1.Deployment
	daemonset  *appsv1.DaemonSet
	anchors    []byte
	issuer     []byte
	apiservice string // status of the condition Available
	agents     map[string]*agentv1.StatusResponse
	silent     map[string]error
	namespace  *corev1.Namespace
	pods       []*corev1.Pod
}

func well(t *testing.T) *sick {
	node := func(name string) *corev1.Node {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelOSStable: "linux"}}}
		n.Status.NodeInfo = corev1.NodeSystemInfo{KernelVersion: "6.8.0-45-generic", ContainerRuntimeVersion: "containerd://2.1.4"}
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
		return n
	}
	meta := metav1.ObjectMeta{Namespace: installation.DefaultNamespace}
	named := func(name string) metav1.ObjectMeta { m := meta; m.Name = name; return m }
	root := certstest.New(t, "root", now.Add(-time.Hour), now.Add(10*365*24*time.Hour), nil)
	issuer := certstest.New(t, "issuer", now.Add(-time.Hour), now.Add(365*24*time.Hour), root)
	replicas := int32(2)
	s := &sick{
		kubernetes: "v1.35.4", may: func(string, string) bool { return true },
		nodes:  []*corev1.Node{node("a"), node("b")},
		leases: map[string]time.Time{"a": now.Add(-3 * time.Second), "b": now.Add(-9 * time.Second)},
		objects: []runtime.Object{
			&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: installation.DefaultNamespace}},
			&rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: installation.Controller}},
			&rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: installation.Controller}},
			&corev1.ServiceAccount{ObjectMeta: named(installation.Controller)},
			&corev1.ServiceAccount{ObjectMeta: named(installation.Agent)},
			&corev1.ConfigMap{
				ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: "extension-apiserver-authentication"},
				Data:       map[string]string{"requestheader-client-ca-file": "x"},
			},
		},
		deployment: &appsv1.Deployment{
			ObjectMeta: named(installation.Controller), Spec: appsv1.DeploymentSpec{Replicas: &replicas},
			Status: appsv1.DeploymentStatus{UpdatedReplicas: 2, ReadyReplicas: 2, AvailableReplicas: 2},
		},
		daemonset: &appsv1.DaemonSet{
			ObjectMeta: named(installation.Agent),
			Status:     appsv1.DaemonSetStatus{DesiredNumberScheduled: 2, UpdatedNumberScheduled: 2, NumberReady: 2},
		},
		anchors: root.PEM, issuer: issuer.PEM, apiservice: "True",
		agents:    map[string]*agentv1.StatusResponse{},
		namespace: &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Labels: map[string]string{mesh.LabelMesh: mesh.LabelEnabled}}},
	}
	s.daemonset.Spec.Template.Spec.NodeSelector = map[string]string{corev1.LabelOSStable: "linux"}
	for _, name := range []string{installation.Controller, installation.Agent} {
		p := &corev1.Pod{ObjectMeta: named(name + "-x")}
		p.Labels = map[string]string{installation.PartOfLabel: installation.PartOf, installation.NameLabel: name}
		p.Spec.Containers = []corev1.Container{{Image: "r:5000/x:dev@sha256:0"}}
		s.objects = append(s.objects, p)
	}
	for i, node := range []string{"a", "b"} {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: fmt.Sprintf("web-%d", i), Labels: map[string]string{"app": "web"}}}
		p.Spec.NodeName, p.Status.Phase = node, corev1.PodRunning
		p.Status.StartTime = &metav1.Time{Time: now.Add(-time.Hour)}
		s.pods = append(s.pods, p)
		s.agents[node] = &agentv1.StatusResponse{
			Node: node, ProgramsAttached: true, Controller: &agentv1.Controller{Connected: true}, Runtime: &agentv1.Runtime{Connected: true},
			Pods: []*agentv1.Pod{{Namespace: "shop", Name: p.Name, State: "enrolled"}},
			Certificates: []*agentv1.Certificate{{
				Identity: "spiffe://cluster.local/ns/shop/sa/web", State: "valid",
				NotBefore: timestamppb.New(now.Add(-time.Hour)), NotAfter: timestamppb.New(now.Add(23 * time.Hour)),
			}},
		}
	}
	s.objects = append(s.objects, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}, Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "web"}},
	})
	return s
}

func (s *sick) checker() *checker {
	objects := append([]runtime.Object{}, s.objects...)
	for _, n := range s.nodes {
		objects = append(objects, n)
	}
	for node, renewed := range s.leases {
		at := metav1.NewMicroTime(renewed)
		objects = append(objects, &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-node-lease", Name: node}, Spec: coordinationv1.LeaseSpec{RenewTime: &at}})
	}
	if s.deployment != nil {
		objects = append(objects, s.deployment)
	}
	objects = append(objects, s.daemonset, s.namespace)
	for _, p := range s.pods {
		objects = append(objects, p)
	}
	if s.anchors != nil {
		objects = append(objects, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: installation.DefaultNamespace, Name: installation.Anchors}, Data: map[string]string{"anchors.pem": string(s.anchors)}})
	}
	objects = append(objects, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: installation.DefaultNamespace, Name: installation.Issuer}, Data: map[string][]byte{"tls.crt": s.issuer}})
	client := fake.NewClientset(objects...)
	client.Discovery().(*fakediscovery.FakeDiscovery).FakedServerVersion = &version.Info{GitVersion: s.kubernetes}
	client.PrependReactor("create", "selfsubjectaccessreviews", func(a clienttesting.Action) (bool, runtime.Object, error) {
		r := a.(clienttesting.CreateAction).GetObject().(*authorizationv1.SelfSubjectAccessReview)
		at := r.Spec.ResourceAttributes
		r.Status.Allowed = s.may(at.Verb, at.Resource)
		return true, r, nil
	})
	api := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": map[string]any{"name": "v1alpha1.tap.underlane.io"},
		"status": map[string]any{"conditions": []any{map[string]any{"type": "Available", "status": s.apiservice, "reason": "R", "message": "m"}}},
	}}
	dyn := dynamicfake.NewSimpleDynamicClient(scheme.Scheme, api)
	return &checker{
		system: installation.DefaultNamespace, now: func() time.Time { return now }, progress: io.Discard,
		connect: func() (kubernetes.Interface, dynamic.Interface, error) { return client, dyn, nil },
		statuses: func(context.Context) (map[string]*agentv1.StatusResponse, map[string]error) {
			return s.agents, s.silent
		},
	}
}

// findings are what is not well, a line each: outcome, description, error.
func findings(ctx context.Context, categories []check.Category) []string {
	var out []string
	for _, c := range check.Run(ctx, categories, nil).Categories {
		for _, r := range c.Checks {
			if r.Result != check.Success {
				out = append(out, fmt.Sprintf("%s: %s: %s", r.Result, r.Description, r.Error))
			}
			if r.Result != check.Success && r.Hint == "" {
				out = append(out, "no hint: "+r.Description)
			}
		}
	}
	return out
}

func TestCheckFindsWhatIsWrong(t *testing.T) {
	for name, tc := range map[string]struct {
		spoil func(*sick)
		want  []string
	}{
		"all is well": {func(*sick) {}, nil},
		"kubernetes":  {func(s *sick) { s.kubernetes = "v1.29.9-gke.1" }, []string{"error: is running the minimum Kubernetes API version: the cluster is on version 1.29.9, but version 1.30.0 or more recent is required"}},
		"controller":  {func(s *sick) { s.deployment.Status.ReadyReplicas = 1 }, []string{"error: controller pods are ready: controller: 1 of 2 ready"}},
		"generation":  {func(s *sick) { s.daemonset.Generation = 2 }, []string{"error: agents are ready: agents: 2 of 2 ready"}},
		"no agent here": {func(s *sick) { s.daemonset.Spec.Template.Spec.NodeSelector["mesh"] = "yes" }, []string{
			"warning: every node has an agent: node a is not selected by the DaemonSet (kubernetes.io/os=linux,mesh=yes)\nnode b is not selected by the DaemonSet (kubernetes.io/os=linux,mesh=yes)",
		}},
		"one replica": {func(s *sick) {
			one := int32(1)
			s.deployment.Spec.Replicas = &one
		}, []string{"warning: multiple replicas of control plane pods: the controller has 1 replica"}},
		"api": {func(s *sick) { s.apiservice = "False" }, []string{"error: tap API service is available: R: m"}},
		"silent agent": {func(s *sick) {
			s.silent = map[string]error{"b": errors.New("no answer")}
			delete(s.agents, "b")
		}, []string{"error: agents answer: node b: no answer", "error: every labelled pod is captured: pod shop/web-1 on node b: the node's agent does not answer"}},
		"detached":       {func(s *sick) { s.agents["a"].ProgramsAttached = false }, []string{"error: BPF programs are attached: node a: its programs are not attached: traffic passes it by"}},
		"disconnected":   {func(s *sick) { s.agents["a"].Controller = &agentv1.Controller{Address: "c:1", LastError: "refused"} }, []string{"error: agents are connected to the controller: node a: not connected to c:1: refused"}},
		"no NRI":         {func(s *sick) { s.agents["a"].Runtime = &agentv1.Runtime{LastError: "no socket"} }, []string{"warning: container runtimes announce pods to the agents: node a: not connected: no socket"}},
		"no certificate": {func(s *sick) { s.agents["a"].Certificates[0].State = "failed" }, []string{"error: workload certificates are valid: node a: spiffe://cluster.local/ns/shop/sa/web is failed"}},
		"late": {func(s *sick) { s.agents["a"].Certificates[0].NotAfter = timestamppb.New(now.Add(6 * time.Minute)) }, []string{
			"warning: workload certificates are renewed in time: node a: spiffe://cluster.local/ns/shop/sa/web expires in 6m0s",
		}},
		"failed pod": {func(s *sick) {
			s.agents["a"].Pods[0] = &agentv1.Pod{Namespace: "shop", Name: "web-0", State: "failed", Reason: "no netns"}
		}, []string{"error: every labelled pod is captured: pod shop/web-0 on node a is failed: no netns"}},
		"unknown pod":  {func(s *sick) { s.agents["a"].Pods = nil }, []string{"error: every labelled pod is captured: pod shop/web-0 on node a: the node's agent does not know it"}},
		"just started": {func(s *sick) { s.agents["a"].Pods = nil; s.pods[0].Status.StartTime.Time = now.Add(-time.Second) }, nil},
		"finished":     {func(s *sick) { s.agents["a"].Pods = nil; s.pods[0].Status.Phase = corev1.PodSucceeded }, nil},
		"opted out":    {func(s *sick) { s.agents["a"].Pods = nil; s.pods[0].Labels[mesh.LabelMesh] = mesh.LabelDisabled }, nil},
		"left out":     {func(s *sick) { s.agents["a"].Pods[0].State, s.agents["a"].Pods[0].Reason = "left-out", "host network" }, []string{"warning: no labelled pod is left out: pod shop/web-0: host network"}},
		"pre-mesh":     {func(s *sick) { s.agents["a"].Pods[0].PreMeshConnections = 3 }, []string{"warning: no connection predates enrolment: pod shop/web-0: 3 connections"}},
		"nobody":       {func(s *sick) { s.namespace.Labels = nil }, []string{"warning: some pod is labelled: no pod is labelled underlane.io/mesh=enabled, nor its namespace"}},
		"bad value": {func(s *sick) {
			s.pods[0].Annotations = map[string]string{mesh.AnnotationSkipInboundPorts: "25,x", mesh.AnnotationPolicy: "strikt"}
		}, []string{"warning: annotations of pods and namespaces make sense: pod shop/web-0: underlane.io/policy: \"strikt\" is neither allow nor strict nor a mode, and counts as deny\npod shop/web-0: underlane.io/skip-inbound-ports: \"x\" is no port and no range of ports"}},
		"modes": {func(s *sick) {
			s.pods[0].Annotations = map[string]string{mesh.AnnotationPolicy: "cluster-authenticated"}
			s.namespace.Annotations = map[string]string{mesh.AnnotationPolicy: "audit"}
		}, nil},
		"opaque differ": {func(s *sick) { s.pods[0].Annotations = map[string]string{mesh.AnnotationOpaquePorts: "25"} }, []string{`warning: opaque ports are properly annotated: service shop/web: its pods differ: "" (pod web-1), "25" (pod web-0)`}},
		"istio":         {func(s *sick) { s.namespace.Labels["istio.io/dataplane-mode"] = "ambient" }, []string{"error: no pod or namespace is in another mesh too: namespace shop is also in Istio (label istio.io/dataplane-mode=ambient)"}},
		"linkerd":       {func(s *sick) { s.pods[0].Spec.InitContainers = []corev1.Container{{Name: "linkerd-proxy"}} }, []string{"error: no pod or namespace is in another mesh too: pod shop/web-0 has the sidecar linkerd-proxy"}},
		"cilium": {func(s *sick) {
			s.objects = append(s.objects, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "cilium-config"}, Data: map[string]string{"kube-proxy-replacement": "true"}})
		}, []string{"warning: Cilium's socket load balancer leaves pods alone: ConfigMap kube-system/cilium-config: the socket load balancer is on (kube-proxy-replacement: \"true\", bpf-lb-sock: \"\") and bpf-lb-sock-hostns-only is not true"}},
		"no anchors": {func(s *sick) { s.anchors = nil }, []string{`error: certificate config is valid: configmaps "underlane-trust-anchors" not found`}},
		"garbage":    {func(s *sick) { s.issuer = []byte("x") }, []string{"error: certificate config is valid: key tls.crt of Secret underlane-identity-issuer: no certificate in PEM form"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := well(t)
			tc.spoil(s)
			c := s.checker()
			if diff := cmp.Diff(tc.want, findings(t.Context(), append(c.installation(), c.dataPlane()...))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestCheckCertificates(t *testing.T) {
	year := 365 * 24 * time.Hour
	s := well(t)
	root := certstest.New(t, "root", now.Add(-10*year), now.Add(24*time.Hour), nil)
	s.anchors = root.PEM
	s.issuer = certstest.New(t, "late", now.Add(-year), now.Add(-time.Hour), root).PEM
	got := strings.Join(findings(t.Context(), []check.Category{(&installChecks{s.connected(t)}).identity()}), "\n")
	for _, want := range []string{
		`warning: trust anchors are valid for at least 60 days: "CN=root" will expire on 2026-03-02`,
		`error: issuer cert is within its validity period: "CN=late" has expired on 2026-03-01`,
		`error: issuer cert is issued by the trust anchor: issuer "CN=late" is not issued by the trust anchors`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	s.issuer = certstest.New(t, "other", now.Add(-time.Hour), now.Add(year), nil).PEM
	got = strings.Join(findings(t.Context(), []check.Category{(&installChecks{s.connected(t)}).identity()}), "\n")
	if !strings.Contains(got, `issuer "CN=other" is not issued by the trust anchors`) {
		t.Errorf("an issuer of another root: want that it is told, got\n%s", got)
	}
	// Short-lived issuers, as cert-manager makes them, are no cause for alarm.
	s.anchors = certstest.New(t, "root", now.Add(-10*year), now.Add(10*year), nil).PEM
	c := s.connected(t)
	short := certstest.New(t, "short", now.Add(-time.Hour), now.Add(47*time.Hour), nil)
	if err := (&installChecks{c}).lasting(short.Cert); err != nil {
		t.Error(err)
	}
}

func (s *sick) connected(t *testing.T) *checker {
	t.Helper()
	c := s.checker()
	var err error
	if c.client, c.any, err = c.connect(); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCheckPre(t *testing.T) {
	for name, tc := range map[string]struct {
		spoil func(*sick)
		want  []string
	}{
		"all is well":    {func(*sick) {}, nil},
		"no right":       {func(s *sick) { s.may = func(_, resource string) bool { return resource != "daemonsets" } }, []string{"error: can create DaemonSets: not authorized to create daemonsets: "}},
		"namespaced":     {func(s *sick) { s.may = func(_, resource string) bool { return resource != "apiservices" } }, []string{"error: can create non-namespaced resources: not authorized to create apiservices: "}},
		"installed":      {func(s *sick) { s.deployment = well(t).deployment; s.objects = append(s.objects, s.namespaceObject()) }, []string{`error: control plane namespace does not already exist: the namespace "underlane-system" exists, with Underlane in it`}},
		"only namespace": {func(s *sick) { s.objects = append(s.objects, s.namespaceObject()) }, []string{`warning: control plane namespace does not already exist: the namespace "underlane-system" exists, without Underlane in it`}},
		"kernel":         {func(s *sick) { s.nodes[1].Status.NodeInfo.KernelVersion = "5.10.0-28-amd64" }, []string{"error: all nodes run Linux 5.15 or newer: node b runs Linux 5.10.0-28-amd64"}},
		"windows": {func(s *sick) {
			s.nodes[1].Labels[corev1.LabelOSStable] = "windows"
			s.nodes[1].Status.NodeInfo.KernelVersion = "10.0"
		}, nil},
		"runtime": {func(s *sick) { s.nodes[0].Status.NodeInfo.ContainerRuntimeVersion = "containerd://1.7.24" }, []string{"warning: container runtimes announce pods before they start: node a has containerd://1.7.24"}},
		"clock":   {func(s *sick) { s.leases["a"] = now.Add(90 * time.Second); s.leases["b"] = now.Add(-10 * time.Minute) }, []string{"error: no clock skew detected: the clock of node a is ahead of this computer's by 1m30s or more\nthe clock of node b is behind this computer's by about 10m0s"}},
		"port": {func(s *sick) {
			s.pods[0].Spec.Containers = []corev1.Container{{Ports: []corev1.ContainerPort{{ContainerPort: 1, HostPort: 4191}}}}
		}, []string{"error: the agent's ports are free on every node: pod shop/web-0 has port 4191 of node a"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := well(t)
			s.deployment = nil
			s.objects = s.objects[1:] // the namespace
			tc.spoil(s)
			if diff := cmp.Diff(tc.want, findings(t.Context(), s.checker().before())); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func (s *sick) namespaceObject() runtime.Object {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: installation.DefaultNamespace}}
}

// What is still starting is waited for, and the wait is told.
func TestCheckWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var progress bytes.Buffer
		c := &checker{wait: time.Minute, progress: &progress}
		start := time.Now()
		run := c.patient(func(context.Context) error {
			if time.Since(start) < 10*time.Second {
				return errors.New("not yet\nsecond line")
			}
			return nil
		})
		if err := run(t.Context()); err != nil || time.Since(start) > 11*time.Second {
			t.Errorf("error %v after %v, want none after 10 s", err, time.Since(start))
		}
		if diff := cmp.Diff("waiting: not yet\n", progress.String()); diff != "" {
			t.Error(diff)
		}
		start = time.Now().Add(time.Hour)
		if err := run(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "not yet") {
			t.Error(err)
		}
	})
}

// Who may not look is told so, not that something is broken.
func TestCheckForbidden(t *testing.T) {
	p := probe("p", "repair it", func(context.Context) error {
		return apierrors.NewForbidden(schema.GroupResource{Resource: "secrets"}, "x", errors.New("no"))
	})
	r := check.Run(t.Context(), []check.Category{{Name: "c", Probes: []check.Probe{p}}}, nil).Categories[0].Checks[0]
	if !strings.HasPrefix(r.Hint, "you lack the right to look") {
		t.Errorf("hint %q, want that the right is missing", r.Hint)
	}
}
