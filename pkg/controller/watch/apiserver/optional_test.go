package apiserver

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/underlane/underlane/pkg/controller/apitest"
	"github.com/underlane/underlane/pkg/controller/custom"
	"github.com/underlane/underlane/pkg/controller/customclient"
)

// addRoute makes a custom object.
func (k *kube) addRoute(resource, name string) {
	k.t.Helper()
	body := must(json.Marshal(map[string]any{
		"metadata": map[string]any{"name": name, "generation": 3, "labels": map[string]string{"a": "b"}},
	}))
	for _, r := range custom.Resources {
		if serverName(&r) != resource {
			continue
		}
		if err := k.custom.Of(r.GroupVersions()[0]).Post().Namespace("default").Resource(r.Name).Body(body).Do(k.t.Context()).Error(); err != nil {
			k.t.Fatal(err)
		}
	}
}

// serverName returns the name of a resource for an apitest.Server.
func serverName(r *custom.Resource) string {
	if slices.ContainsFunc(custom.PolicyObjects, func(p custom.Resource) bool { return p.Qualified() == r.Qualified() }) {
		return r.Qualified()
	}
	return r.Name
}

// TestRoutesComeAndGoWithTheirCRDs: where the Gateway API is not installed
// nothing is wrong, and when it comes it is noticed.
func TestRoutesComeAndGoWithTheirCRDs(t *testing.T) {
	k := watchCluster(t)
	k.waitSynced()
	if p := k.Problems(); len(p) > 0 {
		t.Error(p)
	}
	k.server.Install("httproutes", true)
	k.addRoute("httproutes", "a")
	k.until("the route is seen", func() bool { return len(k.Objects().HTTPRoutes) == 1 })
	if r := k.Objects().HTTPRoutes[0]; r.Name != "a" || r.Generation != 3 || r.Labels != nil {
		t.Errorf("got %+v", r)
	}
	k.server.Install("grpcroutes", true)
	k.addRoute("grpcroutes", "b")
	k.until("both are seen", func() bool { return len(k.Objects().HTTPRoutes) == 1 && len(k.Objects().GRPCRoutes) == 1 })
	for len(k.Changes()) > 0 {
		<-k.Changes()
	}
	k.server.Install("httproutes", false)
	k.until("one goes, and it is told", func() bool {
		return len(k.Objects().HTTPRoutes) == 0 && len(k.Objects().GRPCRoutes) == 1 && len(k.Changes()) == 1
	})
	k.until("nothing is wrong", func() bool { return len(k.Problems()) == 0 })
}

// TestRoutesArePartOfTheFirstState: agents would lose theirs whenever the
// controller starts.
func TestRoutesArePartOfTheFirstState(t *testing.T) {
	k := watchCluster(t, func(s *apitest.Server) {
		s.Install("httproutes", true)
		(&kube{t: t, server: s, Cluster: &Cluster{custom: must(customclient.New(s.Config()))}}).addRoute("httproutes", "a")
		s.Refuse("httproutes", true)
	})
	k.until("it is said what is missing", func() bool {
		p := k.Problems()
		return len(p) == 1 && strings.Contains(p[0].String(), "httproutes")
	})
	select {
	case <-k.Synced():
		t.Error("synced without routes")
	default:
	}
	k.server.Refuse("httproutes", false)
	k.waitSynced()
	if got := k.Objects().HTTPRoutes; len(got) != 1 || got[0].Name != "a" {
		t.Errorf("got %v", got)
	}
}

// TestEveryCustomResourceIsFollowed from the first state on.
func TestEveryCustomResourceIsFollowed(t *testing.T) {
	k := watchCluster(t, func(s *apitest.Server) {
		for _, r := range custom.Resources {
			s.Install(serverName(&r), true)
		}
	})
	k.waitSynced()
	for _, r := range custom.Resources {
		k.addRoute(serverName(&r), "a")
	}
	k.until("all are seen", func() bool {
		o := k.Objects()
		return len(o.HTTPRoutes) == 1 && len(o.GRPCRoutes) == 1 && len(o.TrafficPolicies) == 1 && len(o.TrafficSplits) == 1 && len(o.HTTPRouteGroups) == 1 && len(o.HTTPFaults) == 1 &&
			len(o.PolicyObjects) == len(custom.PolicyObjects)
	})
}

// TestThePreferredVersionIsWatched: TrafficSplits have had four.
func TestThePreferredVersionIsWatched(t *testing.T) {
	gv := func(v string) schema.GroupVersion { return schema.GroupVersion{Group: custom.SplitGroup, Version: v} }
	s := &served{names: map[schema.GroupVersion][]string{gv("v1alpha2"): {"trafficsplits"}, gv("v1alpha4"): {"others"}, gv("v1alpha1"): {"trafficsplits"}}}
	if v := s.version(&custom.TrafficSplits); v != "v1alpha2" {
		t.Error(v)
	}
	if v := s.version(&custom.HTTPRouteGroups); v != "" {
		t.Error(v)
	}
}

// TestStrangeVersionsAreReported: what an API server has in other versions only has no effect, and
// that is said until it changes.
func TestStrangeVersionsAreReported(t *testing.T) {
	server := apitest.New(t)
	c := NewCluster(server.Client(), must(customclient.New(server.Config())), slog.New(slog.DiscardHandler))
	gv := func(v string) schema.GroupVersion {
		return schema.GroupVersion{Group: custom.LinkerdGroup, Version: v}
	}
	var g sync.WaitGroup
	said := func(served *served) string {
		c.adapt(t.Context(), &g, served)
		return fmt.Sprint(c.Problems())
	}
	strange := &served{names: map[schema.GroupVersion][]string{gv("v9"): {"servers", "servers/status"}, gv("v8"): {"servers"}}}
	for range 2 {
		if got := said(strange); !strings.Contains(got, "servers.policy.linkerd.io") || !strings.Contains(got, "(v8, v9)") || strings.Count(got, "versions") != 1 {
			t.Errorf("got %s", got)
		}
	}
	if got := said(&served{names: map[schema.GroupVersion][]string{}}); got != "[]" {
		t.Errorf("without the definition: %s", got)
	}
	// A kind of policies that is not known at all is told, too, and no other.
	unknown := &served{names: map[schema.GroupVersion][]string{
		gv("v1alpha1"): {"httplocalconcurrencylimitpolicies", "httplocalconcurrencylimitpolicies/status"},
		{Group: custom.GatewayGroup, Version: "v1"}: {"gateways"},
	}}
	for range 2 {
		if got := said(unknown); strings.Count(got, "its objects have no effect") != 1 || !strings.Contains(got, "httplocalconcurrencylimitpolicies.policy.linkerd.io") {
			t.Errorf("got %s", got)
		}
	}
	if got := said(&served{names: map[schema.GroupVersion][]string{}}); got != "[]" {
		t.Errorf("without the definition: %s", got)
	}
}

// TestANewVersionIsTakenUp: the objects are listed again by it.
func TestANewVersionIsTakenUp(t *testing.T) {
	server := apitest.New(t)
	server.Install("trafficsplits", true)
	c := NewCluster(server.Client(), must(customclient.New(server.Config())), slog.New(slog.DiscardHandler))
	k := &kube{Cluster: c, t: t, server: server}
	k.addRoute("trafficsplits", "a")
	ctx, cancel := context.WithCancel(t.Context())
	var g sync.WaitGroup
	defer func() { cancel(); g.Wait() }()
	for i, version := range []string{"v1alpha1", "v1alpha1", "v1alpha4", ""} {
		gv := schema.GroupVersion{Group: custom.SplitGroup, Version: version}
		c.adapt(ctx, &g, &served{names: map[schema.GroupVersion][]string{gv: {"trafficsplits"}}})
		want := 1
		if version == "" {
			want = 0
		}
		k.until(version, func() bool { return len(k.Objects().TrafficSplits) == want })
		for _, r := range c.optional.all {
			if r.Of().Name == "trafficsplits" && r.version != version {
				t.Errorf("step %d: watched in %q", i, r.version)
			}
		}
	}
}
