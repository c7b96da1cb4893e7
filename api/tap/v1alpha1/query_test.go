package tapv1alpha1

import (
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
)

func TestQuery(t *testing.T) {
	full := &agentv1.TapRequest{
		To: "deploy/db", ToNamespace: "data", Scheme: "http", Method: "GET", Authority: "web:80", Path: "/a b?c=d",
		MaxRps: 0.5, Buffer: 4096, Selector: "app=web,tier!=x", View: agentv1.TapRequest_ONCE, Legs: true, Headers: true,
	}
	for _, want := range []*agentv1.TapRequest{full, {}, {View: agentv1.TapRequest_TARGET}} {
		q, err := url.ParseQuery(Query(want, "job").Encode())
		if err != nil {
			t.Fatal(err)
		}
		got, kind, err := ParseQuery(q)
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" || kind != "job" || err != nil {
			t.Errorf("%v, kind %q: %s", err, kind, diff)
		}
	}
	for _, bad := range []string{"max-rps=much", "view=sideways", "buffer=-1", "connections=many", "headers=please", "buffer=99999999999", "metod=GET", "target=deploy/x", "namespace=x"} {
		q, _ := url.ParseQuery(bad)
		if r, _, err := ParseQuery(q); err == nil {
			t.Errorf("%s: %v", bad, r)
		}
	}
}

func TestTapPath(t *testing.T) {
	for want, got := range map[string]string{
		"/apis/tap.underlane.io/v1alpha1/watch/tap":                                      TapPath("", "", ""),
		"/apis/tap.underlane.io/v1alpha1/watch/namespaces/shop/tap":                      TapPath("shop", "", ""),
		"/apis/tap.underlane.io/v1alpha1/watch/namespaces/shop/deployments/web/tap":      TapPath("shop", "deployments", "web"),
		"/apis/tap.underlane.io/v1alpha1/watch/namespaces/shop/deployments/..%2Fweb/tap": TapPath("shop", "deployments", "../web"),
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// What ParseQuery accepts, Query writes back.
func FuzzQuery(f *testing.F) {
	f.Add("to=deploy%2Fdb&max-rps=0.5&view=once&kind=job")
	f.Add("buffer=1&path=%2F&watch=true&connections=1")
	f.Fuzz(func(t *testing.T, text string) {
		q, err := url.ParseQuery(text)
		if err != nil {
			return
		}
		r, kind, err := ParseQuery(q)
		if err != nil || r.GetMaxRps() != r.GetMaxRps() {
			return
		}
		again, kindAgain, err := ParseQuery(Query(r, kind))
		if diff := cmp.Diff(r, again, protocmp.Transform()); diff != "" || kind != kindAgain || err != nil {
			t.Errorf("%v, kind %q, then %q: %s", err, kind, kindAgain, diff)
		}
	})
}
