package translate_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/underlane/underlane/pkg/controller/translate"
	"github.com/underlane/underlane/pkg/controller/watch"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
)

// annotated is a pod of a namespace, each with a setting.
func annotated(t *testing.T, ofNamespace, ofPod string) (*mesh.Workload, *translate.Result) {
	t.Helper()
	text := fmt.Sprintf(`apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {underlane.io/mesh: enabled}, annotations: {%s}}
---
apiVersion: v1
kind: Pod
metadata: {name: api, namespace: shop, annotations: {%s}}
spec: {nodeName: n1}
status: {podIP: 10.0.0.1}
`, ofNamespace, ofPod)
	o, err := watch.Decode([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	r := translate.Translate(o, "cluster.local")
	return r.Workloads[0], &r
}

// TestUnknownValuesOfAnnotations: what docs/reference/settings.md says becomes of a value that is
// not known, on a pod whose namespace allows all that the annotation can allow, and on the
// namespace itself. It is told, with the name of the annotation.
func TestUnknownValuesOfAnnotations(t *testing.T) {
	const bad = "no-such-value"
	for _, tc := range []struct {
		name, open string // a value that allows much; "": none does
		is         func(w *mesh.Workload, spec *authz.Spec) bool
	}{
		{mesh.AnnotationPolicy, "allow", func(w *mesh.Workload, spec *authz.Spec) bool {
			return w.Authorized && decide(spec, "web", 80) == authz.Deny
		}},
		{mesh.AnnotationLinkerdPolicy, "all-unauthenticated", func(w *mesh.Workload, spec *authz.Spec) bool {
			return w.Authorized && decide(spec, "web", 80) == authz.Deny
		}},
		{mesh.AnnotationFailMode, "open", func(w *mesh.Workload, _ *authz.Spec) bool { return w.Settings.FailClosed }},
		{mesh.AnnotationPlaintextFallback, "allowed", func(w *mesh.Workload, _ *authz.Spec) bool { return !w.Settings.PlaintextFallback }},
		{mesh.AnnotationSkipInboundPorts, "1-65535", func(w *mesh.Workload, _ *authz.Spec) bool { return len(w.Settings.SkipInboundPorts) == 0 }},
		{mesh.AnnotationSkipOutboundPorts, "1-65535", func(w *mesh.Workload, _ *authz.Spec) bool { return len(w.Settings.SkipOutboundPorts) == 0 }},
		{mesh.AnnotationOpaquePorts, "1-65535", func(w *mesh.Workload, _ *authz.Spec) bool { return len(w.Settings.OpaquePorts) == 0 }},
		{mesh.AnnotationRateLimit, "none", refusing(mesh.AnnotationRateLimit)},
		{mesh.AnnotationClientRateLimit, "none", refusing(mesh.AnnotationClientRateLimit)},
		{mesh.AnnotationIngress, "enabled", func(w *mesh.Workload, _ *authz.Spec) bool { return !w.Settings.Ingress }},
		{mesh.AnnotationSameNode, "", func(w *mesh.Workload, _ *authz.Spec) bool { return w.NetworkPolicy }},
		{mesh.AnnotationTraceSampling, "", func(w *mesh.Workload, _ *authz.Spec) bool { return w.Settings.TraceSampling == nil }},
		{mesh.AnnotationAccessLog, "", func(w *mesh.Workload, _ *authz.Spec) bool { return w.Settings.AccessLog == mesh.AccessLogNone }},
	} {
		places := map[string][2]string{"of the namespace": {tc.name + ": " + bad, ""}}
		if tc.name != mesh.AnnotationSameNode {
			open := ""
			if tc.open != "" {
				open = fmt.Sprintf("%s: %q", tc.name, tc.open)
			}
			places["of the pod"] = [2]string{open, tc.name + ": " + bad}
		}
		for place, values := range places {
			w, r := annotated(t, values[0], values[1])
			if !tc.is(w, r.Authz[w.UID]) {
				t.Errorf("%s %s: %+v", tc.name, place, w)
			}
			if !slices.ContainsFunc(r.Problems, func(p translate.Problem) bool { return strings.Contains(p.Reason, tc.name+":") }) {
				t.Errorf("%s %s: problems %v", tc.name, place, r.Problems)
			}
		}
		if tc.open == "" {
			continue
		}
		if w, r := annotated(t, "", fmt.Sprintf("%s: %q", tc.name, tc.open)); tc.is(w, r.Authz[w.UID]) || len(r.Problems) > 0 {
			t.Errorf("%s: %s is taken for a value that is not known: %v", tc.name, tc.open, r.Problems)
		}
	}
}

// refusing reports whether no request is let in, because of this annotation, and nothing else of it is in effect.
func refusing(annotation string) func(w *mesh.Workload, spec *authz.Spec) bool {
	return func(w *mesh.Workload, spec *authz.Spec) bool {
		return w.Limited && w.RequestRules && w.Settings.RateLimit == nil && w.Settings.ClientRateLimit == nil && spec != nil &&
			len(spec.Limits) == 1 && spec.Limits[0].PerSecond() == 0 && spec.Limits[0].Policy == "annotation "+annotation
	}
}

// TestRatesThatAreNotUnderstood: one that is understood takes the place of one of the namespace
// that is not, and pods outside the mesh have neither.
func TestRatesThatAreNotUnderstood(t *testing.T) {
	for pod, limited := range map[string]bool{
		"underlane.io/rate-limit: 5/s":                                           false,
		"underlane.io/rate-limit: none":                                          false,
		"underlane.io/rate-limit: 5/week":                                        true,
		"underlane.io/rate-limit-per-client: 5/s":                                true, // the namespace's other one holds
		"underlane.io/rate-limit: 0/s":                                           true,
		"underlane.io/rate-limit: ''":                                            true,
		"underlane.io/rate-limit: '5/s, burst=9'":                                true,
		"underlane.io/rate-limit: 5/s, underlane.io/rate-limit-per-client: '-1'": true,
	} {
		w, r := annotated(t, "underlane.io/rate-limit: many", pod)
		if spec := r.Authz[w.UID]; w.Limited != limited || (spec != nil) != limited || w.Settings.RateLimit != nil && w.Settings.RateLimit.Count == 0 {
			t.Errorf("%s: %+v", pod, w)
		}
	}
	text := "apiVersion: v1\nkind: Pod\nmetadata: {name: api, namespace: shop, annotations: {underlane.io/rate-limit: many}}\nspec: {nodeName: n1}\nstatus: {podIP: 10.0.0.1}\n"
	o, err := watch.Decode([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	r := translate.Translate(o, "cluster.local")
	if w := r.Workloads[0]; w.Limited || w.Settings.RateLimit != nil || len(r.Authz) > 0 {
		t.Errorf("outside the mesh: %+v", w)
	}
}

// TestMisspeltNames: a name of our domain that is not known is told.
func TestMisspeltNames(t *testing.T) {
	_, r := annotated(t, "underlane.io/polcy: strict", "underlane.io/rate-limits: 5/s, lab.underlane.io/index: '1', underlane.io/same-node: wire")
	var got []string
	for _, p := range r.Problems {
		got = append(got, p.String())
	}
	want := []string{
		"Namespace shop: annotation underlane.io/polcy: is not known; it has no effect",
		"Pod shop/api: annotation underlane.io/rate-limits: is not known; it has no effect",
		"Pod shop/api: annotation underlane.io/same-node: has an effect on a namespace only",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	text := "apiVersion: v1\nkind: Pod\nmetadata: {name: api, namespace: shop, labels: {underlane.io/policy: strict}}\nspec: {nodeName: n1}\nstatus: {podIP: 10.0.0.1}\n"
	o, err := watch.Decode([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if p := fmt.Sprint(translate.Translate(o, "cluster.local").Problems); !strings.Contains(p, "label underlane.io/policy: is not known") {
		t.Error(p)
	}
}
