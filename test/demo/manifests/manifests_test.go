package manifests_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/underlane/underlane/pkg/mesh"
)

// objects decodes all manifests of this directory, like an API server with strict
// validation.
func objects(t *testing.T) (all []runtime.Object) {
	t.Helper()
	files, err := filepath.Glob("*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no manifests: %v", err)
	}
	decoder := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for documents := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(data))); ; {
			document, err := documents.Read()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			object, _, err := decoder.Decode(document, nil, nil)
			if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			all = append(all, object)
		}
	}
	return all
}

func TestNodesAccountsAndServicesFitTogether(t *testing.T) {
	nodes, accounts, ports := map[string]string{}, map[string]bool{}, map[string]bool{}
	var services []*corev1.Service
	for _, object := range objects(t) {
		switch o := object.(type) {
		case *corev1.Namespace:
			if o.Labels[mesh.LabelMesh] != mesh.LabelEnabled {
				t.Errorf("namespace %s has no mesh label, want it meshed", o.Name)
			}
		case *corev1.Pod:
			nodes[o.Namespace+"/"+o.Name] = o.Spec.NodeName
		case *corev1.ServiceAccount:
			accounts[o.Name] = true
		case *appsv1.Deployment:
			spec := o.Spec.Template.Spec
			nodes[o.Name] = spec.NodeName
			if spec.ServiceAccountName != o.Name {
				t.Errorf("%s runs as %q, want a service account of its own, so that it has its own identity", o.Name, spec.ServiceAccountName)
			}
			for _, p := range spec.Containers[0].Ports {
				ports[o.Spec.Template.Labels["app"]+" "+p.Name] = true
			}
		case *corev1.Service:
			services = append(services, o)
		}
	}
	want := map[string]string{
		"web": "node-1", "emoji": "node-1", "voting": "node-2", "banner": "node-2", "vote-bot": "node-2",
		"default/outsider": "node-2",
	}
	if diff := cmp.Diff(want, nodes); diff != "" {
		t.Errorf("nodes (-want +got):\n%s", diff)
	}
	for _, s := range services {
		if !accounts[s.Name] || !ports[s.Spec.Selector["app"]+" "+s.Spec.Ports[0].TargetPort.String()] {
			t.Errorf("service %s selects no port of a deployment, or has no service account; want both", s.Name)
		}
	}
}
