package manifest

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestExpand has the cases of the Kubernetes documentation of container
// environments: $(NAME), $$(NAME), unknown names, and lone dollars.
func TestExpand(t *testing.T) {
	known := map[string]string{"A": "1", "B": "$(A)", "": "empty"}
	for in, want := range map[string]string{
		"":            "",
		"plain":       "plain",
		"$(A)":        "1",
		"x$(A)y$(A)z": "x1y1z",
		"$(B)":        "$(A)", // not expanded again
		"$(C)":        "$(C)",
		"$$(A)":       "$(A)",
		"$$$(A)":      "$1",
		"$$":          "$",
		"$":           "$",
		"a$":          "a$",
		"$(A":         "$(A",
		"$A":          "$A",
		"$()":         "empty",
	} {
		if got := Expand(in, known); got != want {
			t.Errorf("Expand(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzExpand(f *testing.F) {
	f.Add("a$(A)$$(A)$", "1")
	f.Fuzz(func(t *testing.T, in, value string) {
		got := Expand(in, map[string]string{"A": value})
		if !strings.Contains(in, "$") && got != in {
			t.Errorf("Expand(%q) = %q, want it unchanged", in, got)
		}
	})
}

func TestEnvironment(t *testing.T) {
	ref := func(path string) *corev1.EnvVarSource {
		return &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop", Labels: map[string]string{"a/b": "c"}},
		Status:     corev1.PodStatus{PodIP: "10.0.0.1", PodIPs: []corev1.PodIP{{IP: "10.0.0.1"}, {IP: "fd::1"}}},
	}
	c := &corev1.Container{
		Command: []string{"web", "--at=$(WHERE)"}, Args: []string{"$(PATH)", "$(NONE)"},
		Env: []corev1.EnvVar{
			{Name: "NAME", ValueFrom: ref("metadata.name")},
			{Name: "IPS", ValueFrom: ref("status.podIPs")},
			{Name: "LABEL", ValueFrom: ref("metadata.labels['a/b']")},
			{Name: "WHERE", Value: "$(NAME) $(LATER)"},
			{Name: "LATER", Value: "x"},
		},
	}
	env, err := Environment(pod, c, []string{"PATH=/bin"})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"PATH=/bin", "NAME=web", "IPS=10.0.0.1,fd::1", "LABEL=c", "WHERE=web $(LATER)", "LATER=x"}
	if diff := cmp.Diff(want, env); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"web", "--at=web $(LATER)", "/bin", "$(NONE)"}, Command(c, env)); diff != "" {
		t.Errorf("command (-want +got):\n%s", diff)
	}
	c.Env = []corev1.EnvVar{{Name: "X", ValueFrom: ref("spec.nope")}}
	if _, err := Environment(pod, c, nil); err == nil || !strings.Contains(err.Error(), "spec.nope") {
		t.Errorf("got %v, want an error that names spec.nope", err)
	}
}
