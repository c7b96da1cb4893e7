package enrol

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/underlane/underlane/pkg/agent/nri"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/state"
)

// What other pods show of a namespace counts where the pod itself says nothing. What
// nothing shows is the stricter.
func TestUnconfirmed(t *testing.T) {
	strict, closed := mesh.Settings{Policy: mesh.PolicyStrict}, mesh.Settings{FailClosed: true}
	for name, c := range map[string]struct {
		known    []mesh.Workload
		own      map[string]string // annotations of the pod
		labelled bool
		want     mesh.Settings
	}{
		"nothing is known":      {nil, nil, false, strict},
		"another namespace":     {[]mesh.Workload{{Namespace: "other", Meshed: true}}, nil, false, strict},
		"an open namespace":     {[]mesh.Workload{{}}, nil, false, mesh.Settings{}},
		"a strict namespace":    {[]mesh.Workload{{Meshed: true, Settings: strict}}, nil, true, strict},
		"it fails closed":       {[]mesh.Workload{{Meshed: true, Settings: closed}}, nil, true, closed},
		"a pod is left out":     {[]mesh.Workload{{LeftOut: "host network", HostNetwork: true}}, nil, true, mesh.Settings{}},
		"others say themselves": {[]mesh.Workload{{Meshed: true, OwnLabel: true, OwnSettings: true}}, nil, false, strict},
		"some say themselves":   {[]mesh.Workload{{Meshed: true, OwnSettings: true, Settings: closed}, {Settings: strict, OwnLabel: true}}, nil, true, strict},
		"other settings of pods": {
			[]mesh.Workload{{Settings: mesh.Settings{SkipInboundPorts: []mesh.PortRange{{First: 1, Last: 2}}, PlaintextFallback: true}}}, nil, false, mesh.Settings{},
		},
		"the pod says allow":      {[]mesh.Workload{{Settings: strict}}, map[string]string{mesh.AnnotationPolicy: "allow"}, false, mesh.Settings{}},
		"the pod says strict":     {[]mesh.Workload{{}}, map[string]string{mesh.AnnotationPolicy: "strict"}, false, strict},
		"the pod says what is no": {[]mesh.Workload{{Settings: strict}}, map[string]string{mesh.AnnotationPolicy: "open"}, false, strict},
		"the pod fails closed":    {[]mesh.Workload{{}}, map[string]string{mesh.AnnotationFailMode: "closed"}, false, closed},
		"the pod fails somehow":   {[]mesh.Workload{{}}, map[string]string{mesh.AnnotationFailMode: "Closed"}, false, closed},
		"the pod fails open":      {[]mesh.Workload{{Settings: closed}}, map[string]string{mesh.AnnotationFailMode: "open"}, false, mesh.Settings{}},
	} {
		t.Run(name, func(t *testing.T) {
			store := state.NewStore("n1")
			var changes []state.Resource
			for i := range c.known {
				w := &c.known[i]
				w.UID = string(rune('a' + i))
				if w.Namespace == "" {
					w.Namespace = "shop"
				}
				changes = append(changes, state.Resource{Name: state.WorkloadName(w.UID), Workload: w})
			}
			if err := store.Apply(state.Delta{Resources: changes}); err != nil {
				t.Fatal(err)
			}
			from := namespaceOf(store.View(), "shop")
			w := (&Sandboxes{Node: "n1"}).unconfirmed(nri.Sandbox{Namespace: "shop", Annotations: c.own}, from)
			if from.labelled != c.labelled {
				t.Errorf("got labelled %v, want %v", from.labelled, c.labelled)
			}
			if diff := cmp.Diff(c.want, w.Settings); diff != "" {
				t.Errorf("settings (-want +got):\n%s", diff)
			}
		})
	}
	for _, w := range []mesh.Workload{{Meshed: true}, {LeftOut: "part of the mesh itself"}} {
		w.UID, w.Namespace = "a", mesh.SystemNamespace
		store := state.NewStore("n1")
		if err := store.Apply(state.Delta{Resources: []state.Resource{{Name: state.WorkloadName("a"), Workload: &w}}}); err != nil {
			t.Fatal(err)
		}
		if namespaceOf(store.View(), mesh.SystemNamespace).labelled {
			t.Error("a pod of the mesh itself counts as labelled")
		}
	}
}
