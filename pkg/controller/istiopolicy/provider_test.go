package istiopolicy

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/underlane/underlane/pkg/mesh"
)

func TestParseProviders(t *testing.T) {
	got, err := ParseProviders(`[{"name": "h", "envoyExtAuthzHttp": {"service": "auth/a.auth.svc.cluster.local", "port": 8000, "timeout": "10m", "pathPrefix": "/p/",
		"failOpen": true, "statusOnError": "503", "includeRequestHeadersInCheck": ["X-Token", "x-*"], "includeAdditionalHeadersInCheck": {"X-B": "2", "X-A": "1"},
		"includeRequestBodyInCheck": {"maxRequestBytes": 1000000, "allowPartialMessage": true, "packAsBytes": true},
		"headersToUpstreamOnAllow": ["X-User"], "headersToDownstreamOnAllow": ["Set-Cookie"], "headersToDownstreamOnDeny": ["Location"]}},
		{"name": "g", "envoyExtAuthzGrpc": {"service": "a.auth", "port": "9000"}}, {"name": "g2", "envoyExtAuthzGrpc": {"service": "a.auth", "port": 9000}}, {"name": "z", "zipkin": {}}]`)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) == 3 && got[1].Problem != "" { // a port that is a string
		got = append(got[:1], got[2:]...)
	}
	want := []Provider{
		{Name: "h", ExternalAuth: mesh.ExternalAuth{
			Service: mesh.ServicePortRef{Namespace: "auth", Name: "a", Port: 8000}, Timeout: time.Minute, PathPrefix: "/p", FailOpen: true, StatusOnError: 503,
			RequestHeaders: mesh.FieldNames{"x-token", "x-*"}, AddHeaders: []mesh.HeaderField{{Name: "x-a", Value: "1"}, {Name: "x-b", Value: "2"}},
			UpstreamHeaders: mesh.FieldNames{"x-user"}, AllowHeaders: mesh.FieldNames{"set-cookie"}, DenyHeaders: mesh.FieldNames{"location"},
			MaxBody: 64 << 10, PartialBody: true,
		}},
		{Name: "g2", ExternalAuth: mesh.ExternalAuth{GRPC: true, Service: mesh.ServicePortRef{Namespace: "auth", Name: "a", Port: 9000}, RequestHeaders: mesh.FieldNames{"*"}}},
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b mesh.FieldNames) bool { return strings.Join(a, ",") == strings.Join(b, ",") })); diff != "" {
		t.Error("-want +got", diff)
	}
	for text, says := range map[string]string{
		`{service: a, port: 1}`:                                      `service "a"`,
		`{service: a.b.example.com, port: 1}`:                        "a Service of the cluster",
		`{service: a.b, port: 0}`:                                    "port 0",
		`{service: a.b, port: 70000}`:                                "port 70000",
		`{service: a.b, port: 1, timeout: soon}`:                     `timeout "soon"`,
		`{service: a.b, port: 1, statusOnError: "200"}`:              `statusOnError "200"`,
		`{service: a.b, port: 1, pathPrefix: x}`:                     "does not begin with a slash",
		`{service: a.b, port: 1, includeRequestBodyInCheck: {}}`:     "without maxRequestBytes",
		`{service: a.b, port: 1, headersToUpstream: [x]}`:            "headersToUpstream",
		`{service: a.b, port: 1}, envoyExtAuthzGrpc: {service: a.b}`: "both",
	} {
		got, err := ParseProviders("[{name: x, envoyExtAuthzHttp: " + text + "}]")
		if err != nil || len(got) != 1 || !strings.Contains(got[0].Problem, says) {
			t.Errorf("%s: %+v, %v; want a problem with %q", text, got, err, says)
		}
	}
	for _, text := range []string{"{}", "[{}]", "[{name: a, envoyExtAuthzGrpc: {}}, {name: a, envoyExtAuthzGrpc: {}}]", "[1]", "a: ["} {
		if got, err := ParseProviders(text); err == nil {
			t.Errorf("%s: %+v, want an error", text, got)
		}
	}
	if got, err := ParseProviders(""); err != nil || len(got) > 0 {
		t.Errorf("nothing: %v, %v", got, err)
	}
}
