package cluster

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/underlane/underlane/pkg/controller/custom"
	"github.com/underlane/underlane/pkg/controller/customclient"
	"github.com/underlane/underlane/pkg/mesh"
)

// TestCanary: a TrafficSplit as Flagger writes it, whose weights change every
// few seconds. Each change reaches the agent, and the Services' values stay.
func TestCanary(t *testing.T) {
	k := newKube(t)
	k.Install("trafficsplits", true)
	for i, name := range []string{"podinfo", "podinfo-primary", "podinfo-canary"} {
		if _, err := k.Client().CoreV1().Services("shop").Create(t.Context(), &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec:       corev1.ServiceSpec{ClusterIP: fmt.Sprintf("10.96.0.%d", i+1), Ports: []corev1.ServicePort{{Name: "http", Port: 9898}}},
		}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	clients, err := customclient.New(k.Config())
	if err != nil {
		t.Fatal(err)
	}
	splits := clients.Of(custom.TrafficSplits.GroupVersions()[0])
	spec := func(primary, canary int) []byte {
		return fmt.Appendf(nil, `{"metadata": {"name": "podinfo"}, "spec": {"service": "podinfo", "backends": [
			{"service": "podinfo-primary", "weight": %d}, {"service": "podinfo-canary", "weight": %d}]}}`, primary, canary)
	}
	if err := splits.Post().Namespace("shop").Resource("trafficsplits").Body(spec(100, 0)).Do(t.Context()).Error(); err != nil {
		t.Fatal(err)
	}
	r := k.replica()
	r.waitServing()
	client, store := k.agent(r, "node-1", token("node-1"))
	eventually(t, "connected", func() bool { return meshed(store, "web") })
	if err := client.Resolve(t.Context(), netip.MustParseAddr("10.96.0.1")); err != nil {
		t.Fatal(err)
	}
	weights := func() (out []uint32) {
		root, ok := store.View().ServiceByName("shop", "podinfo")
		if !ok {
			return nil
		}
		for _, r := range store.View().Routes(root) {
			for _, b := range r.Rules[0].Backends {
				if _, known := store.View().ServiceByName(b.Service.Namespace, b.Service.Name); known && r.Kind == "TrafficSplit" {
					out = append(out, b.Weight)
				}
			}
		}
		return out
	}
	eventually(t, "the split and its backends", func() bool { return slices.Equal(weights(), []uint32{100, 0}) })
	before := services(store.View().ServiceByName("shop", "podinfo-primary"))
	var took []time.Duration
	for canary := range 10 {
		start := time.Now()
		if err := splits.Patch(types.MergePatchType).Namespace("shop").Resource("trafficsplits").Name("podinfo").
			Body(spec(90-10*canary, 10+10*canary)).Do(t.Context()).Error(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the new weights", func() bool { return slices.Equal(weights(), []uint32{uint32(90 - 10*canary), uint32(10 + 10*canary)}) })
		took = append(took, time.Since(start))
	}
	if m := slices.Min(took); m > time.Second { // the machine may be busy with something else
		t.Errorf("a step took %s of %s", m, took)
	}
	if services(store.View().ServiceByName("shop", "podinfo-primary")) != before {
		t.Error("a Service's value has changed with the weights")
	}
	if st := client.Status(); st.Nacks != 0 || st.Skipped != 0 {
		t.Errorf("status: %+v", st)
	}
	if err := splits.Delete().Namespace("shop").Resource("trafficsplits").Name("podinfo").Do(t.Context()).Error(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "no split", func() bool { return weights() == nil })
}

func services(s *mesh.Service, _ bool) *mesh.Service { return s }
