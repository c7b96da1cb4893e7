package cluster

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/underlane/underlane/internal/version"
	"github.com/underlane/underlane/pkg/cli/cluster/certs/certstest"
	"github.com/underlane/underlane/pkg/cli/cluster/installation"
)

// execute runs the command line without a cluster.
func execute(t *testing.T, stdin string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "none"))
	t.Setenv("HOME", t.TempDir())
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	cmd := Command("underlane")
	var out, errs bytes.Buffer
	cmd.SetIn(strings.NewReader(stdin))
	cmd.SetOut(&out)
	cmd.SetErr(&errs)
	cmd.SetArgs(args)
	err = cmd.ExecuteContext(t.Context())
	return out.String(), errs.String(), err
}

// What install prints is the committed manifest and the record of what was set.
func TestInstallPrints(t *testing.T) {
	want, err := os.ReadFile("../../../daemonset/underlane.yaml")
	if err != nil {
		t.Fatal(err)
	}
	out, errs, err := execute(t, "", "install")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(errs, "no cluster is configured") {
		t.Errorf("nothing is said of the missing cluster: %q", errs)
	}
	documents := slices.DeleteFunc(strings.Split(out, "---\n"), func(d string) bool { return strings.Contains(d, "name: "+installation.Config+"\n") })
	_, committed, _ := strings.Cut(string(want), "---\n") // after the header
	if diff := cmp.Diff(committed, strings.Join(documents[1:], "---\n")); diff != "" {
		t.Error(diff)
	}
}

func TestInstallLayersValues(t *testing.T) {
	file := filepath.Join(t.TempDir(), "v.yaml")
	if err := os.WriteFile(file, []byte("image: {tag: from-file}\nlogLevel: debug\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, _, err := execute(t, "image: {registry: from-stdin}\n", "install", "--ignore-cluster", "--ha", "-f", file, "-f", "-",
		"--set", "image.tag=from-set", "--set-string", "agent.podLabels.n=1", "--controller-replicas", "5", "--identity-trust-domain", "d.example", "-o", "json")
	if err != nil {
		t.Fatal(err)
	}
	var list struct{ Items []map[string]any }
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"from-stdin/controller:from-set"`, `"replicas": 5`, `"--log-level=debug"`, `"n": "1"`, `"--trust-domain=d.example"`, "requiredDuringScheduling"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %s", want)
		}
	}
	if kind := list.Items[0]["kind"]; kind != "Namespace" {
		t.Errorf("the first object is a %v", kind)
	}
}

func TestInstallRefuses(t *testing.T) {
	for want, args := range map[string][]string{
		"'nonsense' not allowed":  {"install", "--set", "nonsense=1"},
		"use yaml or json":        {"install", "-o", "xml"},
		"give all three":          {"install", "--identity-issuer-key-file", "x"},
		"none of the certificate": {"install", "--identity-external-issuer", "--identity-issuer-key-file", "x"},
		"no cluster to talk to":   {"install", "--apply"},
		"--values":                {"install", "-f", "/nonexistent"},
	} {
		if _, _, err := execute(t, "", args...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", args, err, want)
		}
	}
}

// issuerFiles writes a root, an issuer of it and the issuer's key.
func issuerFiles(t *testing.T, root, issuer *certstest.CA) (anchors, certificate, key string) {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, text []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	der, err := x509.MarshalECPrivateKey(issuer.Key)
	if err != nil {
		t.Fatal(err)
	}
	return write("root.crt", root.PEM), write("issuer.crt", issuer.PEM), write("issuer.key", pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
}

func TestInstallOwnIssuer(t *testing.T) {
	from, to := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	root := certstest.New(t, "root", from, to, nil)
	issuer := certstest.New(t, "issuer", from, to, root)
	anchors, crt, key := issuerFiles(t, root, issuer)
	args := []string{"install", "--ignore-cluster", "--identity-trust-anchors-file", anchors, "--identity-issuer-certificate-file", crt, "--identity-issuer-key-file", key}
	out, _, err := execute(t, "", args...)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out, "kind: Secret") || !strings.Contains(out, "--identity-external-issuer") {
		t.Error("the issuer is not installed")
	}
	// The record for upgrades has no key, but knows that the issuer is there.
	_, record, _ := strings.Cut(out, "overrides.yaml")
	record, _, _ = strings.Cut(record, "kind:")
	if strings.Contains(record, "PRIVATE") || !strings.Contains(record, "existing: true") {
		t.Errorf("record: %s", record)
	}

	other := certstest.New(t, "other", from, to, nil)
	anchors, crt, key = issuerFiles(t, root, other)
	_, _, err = execute(t, "", "install", "--ignore-cluster", "--identity-trust-anchors-file", anchors, "--identity-issuer-certificate-file", crt, "--identity-issuer-key-file", key)
	if err == nil || !strings.Contains(err.Error(), "not issued by the trust anchors") {
		t.Error(err)
	}
}

func TestRecordSurvives(t *testing.T) {
	set := map[string]any{"image": map[string]any{"tag": "t"}, "agent": map[string]any{"nodeIPs": []any{"10.0.0.1"}}}
	record, err := configMap("n", set)
	if err != nil {
		t.Fatal(err)
	}
	data := record.Object["data"].(map[string]any)
	client := fake.NewClientset(&corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: installation.Config}, Data: map[string]string{overridesKey: data[overridesKey].(string)},
	})
	got, err := installed(t.Context(), client, "n")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(set, got); diff != "" {
		t.Error(diff)
	}
}

// An installation without a record: each cause is named.
func TestNoRecord(t *testing.T) {
	deployment := func(labels map[string]string) *fake.Clientset {
		return fake.NewClientset(&appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: installation.Controller, Labels: labels}})
	}
	for want, client := range map[string]*fake.Clientset{
		"no Underlane in namespace n": fake.NewClientset(),
		"helm upgrade":                deployment(map[string]string{"app.kubernetes.io/managed-by": "Helm"}),
		"underlane-config is missing": deployment(nil),
	} {
		if _, err := installed(t.Context(), client, "n"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// An upgrade that skips a minor version is refused, whichever pods would be skipped.
func TestUpgradeSkips(t *testing.T) {
	was := version.Version
	defer func() { version.Version = was }()
	version.Version = "v0.3.0"
	for _, c := range []struct{ controller, agent, want string }{
		{"v0.2.0", "v0.2.1", ""},
		{"v0.3.0", "v0.2.1", ""},
		{"mine", "mine", ""},
		{"0.1.0", "0.1.0", "0.1.0 to v0.3.0 skips v0.2"},
		{"v0.3.0", "v0.1.4", "v0.1.4 to v0.3.0 skips v0.2"}, // an upgrade that has stopped on its way
		{"v0.5.0", "v0.5.0", "back to v0.3.0 skips v0.4"},
	} {
		var pods []runtime.Object
		for name, tag := range map[string]string{installation.Controller: c.controller, installation.Agent: c.agent} {
			p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: name, Labels: map[string]string{
				installation.NameLabel: name, installation.PartOfLabel: installation.PartOf,
			}}}
			p.Spec.Containers = []corev1.Container{{Image: "ghcr.io/underlane/x:" + tag}}
			pods = append(pods, p)
		}
		err := sequence(t.Context(), fake.NewClientset(pods...), "n")
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestInstallOfChannel(t *testing.T) {
	for channel, want := range map[string]string{"nightly": "there are stable and edge", "stable": "this build is no release"} {
		if _, _, err := execute(t, "", "install", "--ignore-cluster", "--channel", channel); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", channel, err)
		}
	}
}

func TestTrustDomainStays(t *testing.T) {
	args := []string{"--namespace=n", "--trust-domain=a.example"}
	if err := sameTrustDomain(args, map[string]any{"trustDomain": "a.example"}); err != nil {
		t.Error(err)
	}
	if err := sameTrustDomain(args, nil); err == nil || !strings.Contains(err.Error(), `"a.example", not "cluster.local"`) {
		t.Error(err)
	}
}

func TestMesh(t *testing.T) {
	in := "kind: Deployment\nmetadata: {name: web}\nspec:\n  template:\n    spec: {}   # pods\n---\nkind: Service\nmetadata: {name: web}\n"
	out, report, err := execute(t, in, "mesh", "--policy", "strict", "-")
	if err != nil {
		t.Fatal(err)
	}
	want := `kind: Deployment
metadata: {name: web}
spec:
  template:
    metadata:
      labels:
        underlane.io/mesh: enabled
      annotations:
        underlane.io/policy: strict
    spec: {}   # pods
---
kind: Service
metadata: {name: web}
`
	if diff := cmp.Diff(want, out); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff("\ndeployment \"web\" meshed\nservice \"web\" skipped\n\n", report); diff != "" {
		t.Error(diff)
	}
	back, report, err := execute(t, out, "unmesh", "-")
	if err != nil || strings.Contains(back, "underlane.io/mesh") || !strings.Contains(report, `deployment "web" unmeshed`) {
		t.Errorf("error %v, report %q; want no label and a Deployment unmeshed:\n%s", err, report, back)
	}
}

// Several sources become one stream; half a stream is never printed.
func TestMeshSources(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"a.yaml": "kind: Pod\nmetadata:\n  name: a", "b.yml": "kind: Pod\nmetadata:\n  name: b\n", "c.txt": "not: this"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	label := "  labels:\n    underlane.io/mesh: enabled\n"
	out, _, err := execute(t, "", "mesh", dir)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("kind: Pod\nmetadata:\n"+label+"  name: a\n---\nkind: Pod\nmetadata:\n"+label+"  name: b\n", out); diff != "" {
		t.Error(diff)
	}
	out, _, err = execute(t, "a: [", "mesh", filepath.Join(dir, "a.yaml"), "-")
	if err == nil || out != "" || !strings.Contains(err.Error(), "standard input: document 1") {
		t.Errorf("error %v, output %q; want one of document 1 of standard input, and no output", err, out)
	}
	if _, _, err := execute(t, "", "mesh", t.TempDir()); err == nil || !strings.Contains(err.Error(), "no manifest") {
		t.Error(err)
	}
}
