package tapv1alpha1

import (
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestListQueries(t *testing.T) {
	resources := ResourcesQuery{Kind: "pod", Namespace: "shop", Name: "a&b", Owner: "web"}
	if got, err := ParseResources(resources.Values()); err != nil || got != resources {
		t.Errorf("%+v %v, want %+v", got, err, resources)
	}
	for in, want := range map[ConnectionsQuery]ConnectionsQuery{
		{Kind: "pod", Namespace: "shop", Name: "a&b", Node: "n", Limit: 7}: {Kind: "pod", Namespace: "shop", Name: "a&b", Node: "n", Limit: 7},
		{}: {Limit: DefaultConnections},
	} {
		if got, err := ParseConnections(in.Values()); err != nil || got != want {
			t.Errorf("%+v %v, want %+v", got, err, want)
		}
	}
	for _, bad := range []string{"limit=0", "limit=-1", "limit=10001", "limit=x", "name=web", "node=a&who=b"} {
		values, err := url.ParseQuery(bad)
		if err != nil {
			t.Fatal(err)
		}
		if q, err := ParseConnections(values); err == nil {
			t.Errorf("%s: %+v, want an error", bad, q)
		}
	}
	if q, err := ParseResources(url.Values{"limit": {"1"}}); err == nil {
		t.Errorf("%+v, want an error", q)
	}
	want := map[string]string{
		"/apis/tap.underlane.io/v1alpha1/resources":                      ResourcesPath(""),
		"/apis/tap.underlane.io/v1alpha1/namespaces/..%2Fshop/resources": ResourcesPath("../shop"),
		"/apis/tap.underlane.io/v1alpha1/namespaces/shop/connections":    ConnectionsPath("shop"),
	}
	for path, got := range want {
		if diff := cmp.Diff(path, got); diff != "" {
			t.Error("(-want +got):", diff)
		}
	}
}
