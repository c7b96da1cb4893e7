package tapv1alpha1

import (
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWhyQuery(t *testing.T) {
	full := WhyQuery{
		To: "svc/api", ToNamespace: "back", Port: 8080, Method: "POST", Path: "/a?b=c", Authority: "api:80", GRPC: true,
		Headers: []string{"a=b", "c="}, Try: TryTLS,
	}
	for _, want := range []WhyQuery{full, {To: "pod/x"}} {
		q, err := url.ParseQuery(want.Values().Encode())
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseWhy(q)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%v: %s", err, diff)
		}
	}
	for _, bad := range []string{"", "to=", "to=svc/a&port=x", "to=svc/a&port=70000", "to=svc/a&grpc=2", "to=svc/a&protocol=udp", "to=svc/a&path=x", "to=svc/a&path=/%0d%0aX:y", "to=svc/a&method=GET%20/", "to=svc/a&authority=a%0ab", "to=svc/a&header=x", "to=svc/a&header==x", "to=svc/a&from=pod/x", "to=svc/a&path=/" + strings.Repeat("x", maxWhyText), "to=svc/a&header=a=" + strings.Repeat("x", maxWhyText)} {
		q, _ := url.ParseQuery(bad)
		if got, err := ParseWhy(q); err == nil {
			t.Errorf("%s: got %+v, want an error", bad, got)
		}
	}
	for want, got := range map[string]string{
		"/apis/tap.underlane.io/v1alpha1/namespaces/shop/deployments/web/why": WhyPath("shop", "deployments", "web"),
		"/apis/tap.underlane.io/v1alpha1/namespaces/shop/pods/..%2Fweb/try":   TryPath("shop", "pods", "../web"),
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
