package customclient

import (
	"fmt"
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/underlane/underlane/pkg/controller/apitest"
	"github.com/underlane/underlane/pkg/controller/custom"
)

// TestUnknownFields: objects of an API server keep the names of fields that their types do not
// have, read one by one, in a list, and from a watch.
func TestUnknownFields(t *testing.T) {
	for name, tc := range map[string]struct {
		of   custom.Resource
		body string // without metadata
		want []string
	}{
		"nothing":              {custom.HTTPRoutes, `"spec":{"hostnames":["a"],"rules":[{"matches":[{"path":{"value":"/"}}],"timeouts":{"request":"1s"}}]},"status":{"tomorrow":1}`, nil},
		"no spec":              {custom.HTTPRoutes, `"status":{}`, nil},
		"a match and a filter": {custom.HTTPRoutes, `"spec":{"rules":[{"matches":[{"cookies":[]}]},{"filters":[{"type":"New","new":{}}]}]}`, []string{"spec.rules[0].matches[0].cookies", "spec.rules[1].filters[0].new"}},
		"of no rule":           {custom.GRPCRoutes, `"spec":{"clients":[]}`, []string{"spec.clients"}},
		"another case":         {custom.HTTPRoutes, `"spec":{"Rules":[]}`, []string{"spec.Rules"}},
		"a match that is null": {custom.HTTPRoutes, `"spec":{"rules":[{"matches":[null]}]}`, []string{"spec.rules[0].matches[0]"}},
		"of TLS":               {custom.TLSRoutes, `"spec":{"rules":[{"alpn":["h2"]}]}`, []string{"spec.rules[0].alpn"}},
		"of TCP":               {custom.TCPRoutes, `"spec":{"rules":[{"addresses":[]}]}`, []string{"spec.rules[0].addresses"}},
		"a budget":             {custom.BackendTrafficPolicies, `"spec":{"retryConstraint":{"budget":{"most":3}}}`, []string{"spec.retryConstraint.budget.most"}},
		"a split":              {custom.TrafficSplits, `"spec":{"service":"a","backends":[{"service":"b","weight":1,"zone":"z"}]}`, []string{"spec.backends[0].zone"}},
		"a group":              {custom.HTTPRouteGroups, `"spec":{"matches":[{"name":"a","cookies":[]}]}`, []string{"spec.matches[0].cookies"}},
		"an older group":       {custom.HTTPRouteGroups, `"matches":[{"name":"a","headers":[{"x":"y"}],"cookies":[]}]`, []string{"spec.matches[0].cookies"}},
		"a fault":              {custom.HTTPFaults, `"spec":{"abort":{"status":500},"stall":{}}`, []string{"spec.stall"}},
		"what it said itself":  {custom.HTTPRoutes, `"spec":{}`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			server := apitest.New(t)
			server.Install(tc.of.Name, true)
			clients, err := New(server.Config())
			if err != nil {
				t.Fatal(err)
			}
			client := clients.Of(tc.of.GroupVersions()[0])
			check := func(how string, o runtime.Object) {
				t.Helper()
				got := custom.UnknownFields(o.(metav1.Object))
				slices.Sort(got)
				if !slices.Equal(got, tc.want) {
					t.Errorf("%s: got %q, want %q", how, got, tc.want)
				}
			}
			watch, err := client.Get().Namespace("shop").Resource(tc.of.Name).VersionedParams(&metav1.ListOptions{Watch: true, ResourceVersion: "1"}, metav1.ParameterCodec).Watch(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer watch.Stop()
			gv := tc.of.GroupVersions()[0].String()
			body := fmt.Sprintf(`{"apiVersion":%q,"kind":%q,"metadata":{"name":"a","annotations":{"internal.underlane.io/unknown-fields":"forged"}},%s}`, gv, tc.of.Kind, tc.body)
			if err := client.Post().Namespace("shop").Resource(tc.of.Name).Body([]byte(body)).Do(t.Context()).Error(); err != nil {
				t.Fatal(err)
			}
			check("watched", (<-watch.ResultChan()).Object)
			one, err := client.Get().Namespace("shop").Resource(tc.of.Name).Name("a").Do(t.Context()).Get()
			if err != nil {
				t.Fatal(err)
			}
			check("read", one)
			list, err := client.Get().Namespace("shop").Resource(tc.of.Name).Do(t.Context()).Get()
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			if err := meta.EachListItem(list, func(o runtime.Object) error { n++; check("listed", o); return nil }); err != nil || n != 1 {
				t.Error(n, err)
			}
		})
	}
}
