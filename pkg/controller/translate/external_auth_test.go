package translate_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/underlane/underlane/pkg/controller/istiopolicy"
	"github.com/underlane/underlane/pkg/controller/translate"
	"github.com/underlane/underlane/pkg/controller/watch"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
)

const bouncer = `---
apiVersion: v1
kind: Service
metadata: {name: bouncer, namespace: auth}
spec: {clusterIP: 10.0.0.9, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: headless, namespace: auth}
spec: {clusterIP: None, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.0.0.8, ports: [{port: 80}]}
`

// guarded is a route of web with filters.
func guarded(filters string) string {
	return bouncer + fmt.Sprintf(`---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: web}]
  rules: [{filters: [%s], backendRefs: [{name: web, port: 80}]}]
`, filters)
}

func externalAuth(fields string) string {
	return "{type: ExternalAuth, externalAuth: {" + fields + "}}"
}

// TestExternalAuth: what the filter says, and that a route with one never lets requests
// through without it.
func TestExternalAuth(t *testing.T) {
	at := mesh.ExternalAuth{
		Service: mesh.ServicePortRef{Namespace: "auth", Name: "bouncer", Port: 80}, Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.9")},
		DenyHeaders: mesh.FieldNames{"*"},
	}
	http, grpc := at, at
	http.PathPrefix, http.RequestHeaders, http.UpstreamHeaders, http.MaxBody = "/check", mesh.FieldNames{"x-token"}, mesh.FieldNames{"x-user"}, 100
	least := at
	least.UpstreamHeaders = mesh.FieldNames{"*"}
	grpc.GRPC, grpc.RequestHeaders = true, mesh.FieldNames{"*"}
	to := "backendRef: {name: bouncer, namespace: auth, port: 80}"
	redirect := "{type: RequestRedirect, requestRedirect: {statusCode: 301}}"
	for name, tc := range map[string]struct {
		filters string
		want    *mesh.ExternalAuth
		says    string // of the route's problems
	}{
		"HTTP":         {externalAuth("protocol: HTTP, " + to + ", http: {path: check/, allowedHeaders: [X-Token], allowedResponseHeaders: [X-User]}, forwardBody: {maxSize: 100}"), &http, ""},
		"HTTP, least":  {externalAuth("protocol: HTTP, " + to), &least, ""},
		"GRPC":         {externalAuth("protocol: GRPC, " + to + ", grpc: {}"), &grpc, ""},
		"no Service":   {externalAuth("protocol: GRPC, backendRef: {name: nobody, port: 80}"), nil, "there is no Service shop/nobody"},
		"headless":     {externalAuth("protocol: GRPC, backendRef: {name: headless, namespace: auth, port: 80}"), nil, "has no cluster IP"},
		"protocol":     {externalAuth("protocol: TCP, " + to), nil, `the protocol "TCP"`},
		"mixed":        {externalAuth("protocol: GRPC, " + to + ", http: {path: /x}"), nil, "are not known"},
		"no fields":    {"{type: ExternalAuth}", nil, "does not say what to do"},
		"redirect":     {externalAuth("protocol: GRPC, "+to) + ", " + redirect, nil, "both a redirect and an external authorizer"},
		"twice":        {externalAuth("protocol: GRPC, "+to) + ", " + externalAuth("protocol: GRPC, "+to), nil, "a second ExternalAuth"},
		"other filter": {externalAuth("protocol: GRPC, "+to) + ", {type: URLRewrite}", nil, "does not say what to do"},
	} {
		t.Run(name, func(t *testing.T) {
			o, err := watch.Decode([]byte(guarded(tc.filters)))
			if err != nil {
				t.Fatal(err)
			}
			got := translate.Translate(o, "cluster.local")
			if said := fmt.Sprint(got.Problems); (tc.says == "") != (len(got.Problems) == 0) || !strings.Contains(said, tc.says) {
				t.Errorf("problems: got %s, want %q", said, tc.says)
			}
			if len(got.Routes) != 1 {
				t.Fatalf("%d routes: the requests would go through", len(got.Routes))
			}
			f := got.Routes[0].Rules[0].Filters
			if (tc.want == nil) != (f.Invalid != "") {
				t.Errorf("refuses because of %q", f.Invalid)
			}
			if tc.want != nil {
				if diff := cmp.Diff(tc.want, f.External, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
					t.Error("-want +got", diff)
				}
			}
		})
	}
}

// TestCustom: Istio's policies with the action CUSTOM ask a provider of the installation, or
// deny.
func TestCustom(t *testing.T) {
	providers, err := istiopolicy.ParseProviders(`
- name: bouncer
  envoyExtAuthzHttp: {service: bouncer.auth.svc.cluster.local, port: 80, timeout: 2s}
- {name: headless, envoyExtAuthzGrpc: {service: auth/headless.auth, port: 80}}
- {name: port, envoyExtAuthzGrpc: {service: bouncer.auth, port: 81}}
- {name: odd, envoyExtAuthzGrpc: {service: bouncer.auth, port: 80, fromTheFuture: 1}}
- {name: traces, zipkin: {}}
`)
	if err != nil {
		t.Fatal(err)
	}
	for provider, says := range map[string]string{
		"bouncer": "", "headless": "there is no Service auth/headless with a cluster IP", "port": "has no TCP port 81", "odd": "fromTheFuture",
		"traces": "is not among the extension providers", "unknown": "is not among the extension providers", "": "no authorizer is named",
	} {
		t.Run(provider, func(t *testing.T) {
			spec := fmt.Sprintf("{%s, action: CUSTOM, provider: {name: %q}, rules: [{}]}", istioAPI, provider)
			o, err := watch.Decode([]byte(authzPods + bouncer + istio("AuthorizationPolicy", "p", spec)))
			if err != nil {
				t.Fatal(err)
			}
			got := translate.Config{TrustDomain: "cluster.local", Providers: providers}.Translate(o)
			if said := fmt.Sprint(got.Problems); (says == "") != (len(got.Problems) == 0) || !strings.Contains(said, says) {
				t.Errorf("problems: got %s, want %q", said, says)
			}
			rules, _ := authz.CompileWorkload(got.Authz["shop/api"])
			d := rules.DecideRequest(&authz.Connection{Port: 80}, &authz.Request{Method: "GET", Path: "/"})
			if says != "" {
				if d.Verdict != authz.Deny {
					t.Errorf("verdict %v, want deny", d.Verdict)
				}
				return
			}
			if a := rules.Authorizer(d.Provider); d.Verdict != authz.Ask || a == nil || a.Timeout != 2*time.Second || fmt.Sprint(a.Addrs) != "[10.0.0.9]" {
				t.Errorf("verdict %v, authorizer %+v", d.Verdict, a)
			}
		})
	}
}
