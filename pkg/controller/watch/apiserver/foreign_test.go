package apiserver

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/underlane/underlane/pkg/controller/apitest"
	"github.com/underlane/underlane/pkg/controller/custom"
	"github.com/underlane/underlane/pkg/controller/customclient"
	"github.com/underlane/underlane/pkg/controller/watch"
)

// addForeign makes a policy of a CNI, with a specification that nobody reads.
func (k *kube) addForeign(r *custom.Resource, namespace string) {
	k.t.Helper()
	path := "/apis/" + r.GroupVersions()[0].String() + "/"
	if namespace != "" {
		path += "namespaces/" + namespace + "/"
	}
	body := `{"metadata":{"name":"p"},"spec":{"endpointSelector":{}},"specs":[1]}`
	req, err := http.NewRequestWithContext(k.t.Context(), http.MethodPost, k.server.Config().Host+path+r.Name, strings.NewReader(body))
	if err != nil {
		k.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode != http.StatusCreated {
		k.t.Fatal(resp, err)
	}
	resp.Body.Close()
}

// TestPoliciesOfCNIs: each of their kinds is seen by its metadata, comes and goes with its
// CustomResourceDefinition, and nothing else of the API server is needed.
func TestPoliciesOfCNIs(t *testing.T) {
	k := watchCluster(t)
	k.waitSynced()
	for i := range custom.ForeignPolicies {
		r := &custom.ForeignPolicies[i]
		namespace := "shop"
		if strings.Contains(r.Kind, "Cluster") || strings.Contains(r.Kind, "Global") || strings.Contains(r.Kind, "Admin") {
			namespace = ""
		}
		k.server.Install(r.Qualified(), true)
		k.addForeign(r, namespace)
		k.until(r.Qualified()+" is seen", func() bool {
			o := k.Objects()
			return !o.ForeignUnknown && len(o.ForeignPolicies) == 1
		})
		got := k.Objects().ForeignPolicies[0]
		if got.Kind != r.Kind || got.Namespace != namespace || got.Name != "p" {
			t.Errorf("%s: got %s %s/%s", r.Qualified(), got.Kind, got.Namespace, got.Name)
		}
		k.server.Install(r.Qualified(), false)
		k.until(r.Qualified()+" is gone", func() bool { return len(k.Objects().ForeignPolicies) == 0 })
	}
	if n := len(k.Objects().NetworkPolicies); n != 0 {
		t.Errorf("%d of them are taken for NetworkPolicies", n)
	}
}

// TestPoliciesOfCNIsThatCannotBeListed: there may be some, and the controller works.
func TestPoliciesOfCNIsThatCannotBeListed(t *testing.T) {
	const cilium = "ciliumnetworkpolicies.cilium.io"
	k := watchCluster(t, func(s *apitest.Server) {
		s.Install(cilium, true)
		s.Refuse(cilium, true)
	})
	k.waitSynced()
	k.until("the doubt is said", func() bool {
		return k.Objects().ForeignUnknown && slices.ContainsFunc(k.Problems(), func(p watch.Problem) bool { return strings.Contains(p.String(), cilium) })
	})
	k.server.Refuse(cilium, false)
	k.until("they are listed", func() bool { return !k.Objects().ForeignUnknown })
}

// TestAGroupThatDoesNotAnswer: an API server that serves a group behind this one may be away.
// What was known of the group's policies stays, and there may be others.
func TestAGroupThatDoesNotAnswer(t *testing.T) {
	const resource = "globalnetworkpolicies.projectcalico.org"
	server := apitest.New(t)
	server.Install(resource, true)
	c := NewCluster(server.Client(), must(customclient.New(server.Config())), slog.New(slog.DiscardHandler))
	k := &kube{Cluster: c, t: t, server: server}
	gv := schema.GroupVersion{Group: "projectcalico.org", Version: "v3"}
	ctx, cancel := context.WithCancel(t.Context())
	var g sync.WaitGroup
	defer func() { cancel(); g.Wait() }()
	known := &served{names: map[schema.GroupVersion][]string{gv: {"globalnetworkpolicies"}}}
	for i, step := range []struct {
		served  *served
		unknown bool
		want    int
	}{
		{&served{doubt: []string{gv.Group}}, true, 0}, {known, false, 1}, {&served{doubt: []string{gv.Group}}, true, 1}, {known, false, 1}, {&served{}, false, 0},
	} {
		if i == 1 {
			r := &custom.ForeignPolicies[slices.IndexFunc(custom.ForeignPolicies, func(r custom.Resource) bool { return r.Qualified() == resource })]
			k.addForeign(r, "")
		}
		c.adapt(ctx, &g, step.served)
		k.until("step "+strconv.Itoa(i), func() bool {
			o := k.Objects()
			return o.ForeignUnknown == step.unknown && len(o.ForeignPolicies) == step.want
		})
	}
}
