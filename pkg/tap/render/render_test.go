package render

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
	"github.com/underlane/underlane/pkg/policy/calls"
	"github.com/underlane/underlane/pkg/tap"
)

func event(kind tap.Kind, change func(*tap.Event)) *tap.Event {
	e := &tap.Event{
		Kind: kind, Base: 3, Stream: 12, TLS: tap.TLSTrue, Time: time.Unix(1_700_000_000, 0),
		Source: tap.Peer{
			Addr:     netip.MustParseAddrPort("10.42.1.2:49152"),
			Workload: &mesh.Workload{Name: "web-1", Namespace: "emojivoto", ServiceAccount: "web", Node: "node-1", OwnerKind: "deployment", OwnerName: "web"},
			Identity: mesh.Identity{TrustDomain: "cluster.local", Namespace: "emojivoto", ServiceAccount: "web"},
		},
		Destination: tap.Peer{
			Addr:     netip.MustParseAddrPort("[fd42::9]:8080"),
			Workload: &mesh.Workload{Name: "voting-0", Namespace: "emojivoto", Node: "node-2", OwnerKind: "statefulset", OwnerName: "voting"},
		},
		Service:  &mesh.Service{Name: "voting-svc", Namespace: "emojivoto"},
		Protocol: "grpc", Method: "POST", Scheme: "http", Authority: "voting-svc:8080", Path: "/emojivote.v1.VotingService/VoteDoughnut",
		Status: 200, Latency: 1500 * time.Microsecond, Duration: 1700*time.Microsecond + 2*time.Second, ReadBytes: 17, WriteBytes: 5,
	}
	if change != nil {
		change(e)
	}
	return e
}

const flow = "id=3:12 proxy=out src=10.42.1.2:49152 dst=[fd42::9]:8080 tls=true"

func TestLine(t *testing.T) {
	none := func(e *tap.Event) { e.Duration = 0 }
	for name, c := range map[string]struct {
		event *tap.Event
		want  string
	}{
		"req": {event(tap.RequestInit, nil), "req " + flow + " :method=POST :authority=voting-svc:8080 :path=/emojivote.v1.VotingService/VoteDoughnut"},
		"rsp": {event(tap.ResponseInit, nil), "rsp " + flow + " :status=200 latency=1500µs"},
		"end": {event(tap.ResponseEnd, nil), "end " + flow + " duration=2000200µs response-length=5B"},
		"end of gRPC": {
			event(tap.ResponseEnd, func(e *tap.Event) { e.GRPC, e.GRPCStatus = true, 14 }),
			"end " + flow + " grpc-status=Unavailable duration=2000200µs response-length=5B",
		},
		"reset": {
			event(tap.ResponseEnd, func(e *tap.Event) { e.Reset, e.ResetCode, e.Reason = true, 8, mesh.ReasonClientReset }),
			"end " + flow + " reset-error=8 duration=2000200µs response-length=5B reason=client-reset",
		},
		"inbound is padded": {
			event(tap.ResponseInit, func(e *tap.Event) { e.Direction, e.TLS = mesh.Inbound, tap.TLSNoIdentity }),
			"rsp id=3:12 proxy=in  src=10.42.1.2:49152 dst=[fd42::9]:8080 tls=no-identity :status=200 latency=1500µs",
		},
		"open": {
			event(tap.ConnOpen, func(e *tap.Event) { e.Process = "mysql" }),
			"open " + flow + " process=mysql",
		},
		"close": {event(tap.ConnClose, nil), "close " + flow + " duration=2001700µs sent=17B received=5B"},
		"close, kernel": {
			event(tap.ConnClose, func(e *tap.Event) {
				e.Origin, e.TLS, e.Process, e.SRTT, e.Retransmits = tap.FromKernel, tap.TLSNotProxied, "curl", 250*time.Microsecond, 2
			}),
			"close id=3:12 proxy=out src=10.42.1.2:49152 dst=[fd42::9]:8080 tls=not-proxied process=curl duration=2001700µs sent=17B received=5B srtt=250µs retransmits=2",
		},
		"close, proxied": {
			event(tap.ConnClose, func(e *tap.Event) { e.SRTT, e.Retransmits = 900*time.Microsecond, 1 }),
			"close " + flow + " duration=2001700µs sent=17B received=5B srtt=900µs retransmits=1",
		},
		"leg opens": {
			event(tap.LegOpen, func(e *tap.Event) { e.Side = tap.ClientSide }),
			"open " + flow + " leg=client",
		},
		"leg closes": {
			event(tap.LegClose, func(e *tap.Event) { e.Side, e.SRTT = tap.ServerSide, time.Millisecond }),
			"close " + flow + " leg=server duration=2001700µs sent=17B received=5B srtt=1000µs retransmits=0",
		},
		"refused": {
			event(tap.ConnClose, func(e *tap.Event) { none(e); e.Reason = mesh.ReasonRefused }),
			"refused " + flow + " reason=refused",
		},
		"denied": {
			event(tap.ConnClose, func(e *tap.Event) { none(e); e.Reason = mesh.ReasonPolicyDenied }),
			"denied " + flow + " reason=policy-denied",
		},
		"reset connection": {
			event(tap.ConnClose, func(e *tap.Event) { e.Reason = mesh.ReasonUpstreamReset }),
			"reset " + flow + " duration=2001700µs sent=17B received=5B reason=upstream-reset",
		},
		"failed": {
			event(tap.ConnClose, func(e *tap.Event) { none(e); e.Reason = mesh.ReasonTLSIdentity }),
			"failed " + flow + " reason=tls-identity",
		},
		"control characters": {
			event(tap.RequestInit, func(e *tap.Event) { e.Path = "/\x1b[2J\n\u0085\xff/é" }),
			"req " + flow + " :method=POST :authority=voting-svc:8080 :path=/\\u001b[2J\\u000a\\u0085?/é",
		},
		"nothing known": {&tap.Event{}, "unknown id=0:0 proxy=out src=- dst=- tls="},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, string(Line(nil, c.event, false))); diff != "" {
				t.Errorf("line (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLineWide(t *testing.T) {
	e := event(tap.ResponseEnd, func(e *tap.Event) {
		e.Reason = mesh.ReasonTLSIdentity
		e.Split = tap.Split{Queue: 40 * time.Microsecond, TLS: 1460 * time.Microsecond, Body: 2*time.Second + 200*time.Microsecond}
	})
	want := "end " + flow + " duration=2000200µs response-length=5B" +
		" split=queue:40µs,tls:1460µs,body:2000200µs" +
		" src_deployment=web src_identity=spiffe://cluster.local/ns/emojivoto/sa/web src_node=node-1 src_ns=emojivoto src_pod=web-1 src_sa=web" +
		" dst_node=node-2 dst_ns=emojivoto dst_pod=voting-0 dst_statefulset=voting" +
		" rt_protocol=grpc rt_service=voting-svc rt_service_ns=emojivoto reason=tls-identity"
	if diff := cmp.Diff(want, string(Line(nil, e, true))); diff != "" {
		t.Errorf("wide line (-want +got):\n%s", diff)
	}
}

// TestSplitOfConnection: a wide line and JSON say where the time went before the connection
// was open, or failed.
func TestSplitOfConnection(t *testing.T) {
	for kind, duration := range map[tap.Kind]time.Duration{tap.ConnOpen: 0, tap.ConnClose: time.Second} {
		e := event(kind, func(e *tap.Event) {
			e.Duration, e.Split = duration, tap.Split{Queue: time.Microsecond, Connect: 5 * time.Second, TLS: 2 * time.Millisecond}
		})
		if got, want := string(Line(nil, e, true)), " split=queue:1µs,connect:5000000µs,tls:2000µs "; !strings.Contains(got, want) {
			t.Errorf("wide line %q, want one with %q", got, want)
		}
		data, err := JSON(e)
		if err != nil {
			t.Fatal(err)
		}
		want := `"split":{"queue":{"nanos":1000},"connect":{"seconds":5},"tls":{"nanos":2000000},"firstByte":{},"body":{}}`
		if !strings.Contains(string(data), want) {
			t.Errorf("JSON %s, want it to have %s", data, want)
		}
	}
}

// TestLegs checks what the kernel knew of both connections, on a wide line and in JSON.
func TestLegs(t *testing.T) {
	e := event(tap.ConnClose, func(e *tap.Event) {
		e.Legs = &tap.Legs{
			Client: tap.Leg{SRTT: 30 * time.Microsecond, Received: 17, Sent: 5},
			Server: tap.Leg{SRTT: 900 * time.Microsecond, Retransmits: 1, Received: 100, Sent: 200, Unread: time.Second},
		}
	})
	want := " client=srtt:30µs,retransmits:0,received:17B,sent:5B server=srtt:900µs,retransmits:1,received:100B,sent:200B,unread:1000000µs "
	if got := string(Line(nil, e, true)); !strings.Contains(got, want) {
		t.Errorf("wide line %q, want one with %q", got, want)
	}
	if got := string(Line(nil, e, false)); strings.Contains(got, "client=") {
		t.Errorf("line %q has the legs, which belong to wide lines only", got)
	}
	data, err := JSON(e)
	if err != nil {
		t.Fatal(err)
	}
	wantJSON := `"legs":{"client":{"srtt":{"nanos":30000},"retransmits":0,"receivedBytes":17,"sentBytes":5,"unread":{}},` +
		`"server":{"srtt":{"nanos":900000},"retransmits":1,"receivedBytes":100,"sentBytes":200,"unread":{"seconds":1}}}`
	if !strings.Contains(string(data), wantJSON) {
		t.Errorf("JSON %s, want it to have %s", data, wantJSON)
	}
}

// TestJSON checks the keys that a program written for Linkerd's JSON reads.
func TestJSON(t *testing.T) {
	e := event(tap.ResponseEnd, func(e *tap.Event) {
		e.GRPC, e.GRPCStatus, e.Reason = true, 7, mesh.ReasonPolicyDenied
		e.Split = tap.Split{FirstByte: 3 * time.Millisecond}
	})
	data, err := JSON(e)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(data), "\n") {
		t.Errorf("got %q, want one line", data)
	}
	var got map[string]any
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"source": map[string]any{"ip": "10.42.1.2", "port": 49152.0, "metadata": map[string]any{
			"deployment": "web", "identity": "spiffe://cluster.local/ns/emojivoto/sa/web", "namespace": "emojivoto",
			"node_name": "node-1", "pod": "web-1", "serviceaccount": "web",
		}},
		"destination": map[string]any{"ip": "fd42::9", "port": 8080.0, "metadata": map[string]any{
			"namespace": "emojivoto", "node_name": "node-2", "pod": "voting-0", "statefulset": "voting", "tls": "true",
		}},
		"routeMeta":      map[string]any{"service": "voting-svc", "service_namespace": "emojivoto"},
		"proxyDirection": "OUTBOUND",
		"responseEndEvent": map[string]any{
			"id":               map[string]any{"base": 3.0, "stream": 12.0},
			"sinceRequestInit": map[string]any{"seconds": 2.0, "nanos": 1700000.0}, "sinceResponseInit": map[string]any{"seconds": 2.0, "nanos": 200000.0},
			"responseBytes": 5.0, "requestBytes": 17.0, "trailers": []any{}, "grpcStatusCode": 7.0, "grpc": true, "success": false,
			"method": "POST", "authority": "voting-svc:8080", "path": "/emojivote.v1.VotingService/VoteDoughnut", "httpStatus": 200.0,
			"split": map[string]any{
				"queue": map[string]any{}, "connect": map[string]any{}, "tls": map[string]any{},
				"firstByte": map[string]any{"nanos": 3e6}, "body": map[string]any{},
			},
		},
		"time": "2023-11-14T22:13:20Z", "origin": "proxy", "tls": "true", "protocol": "grpc",
		"reason": "policy-denied", "reasonText": mesh.ReasonPolicyDenied.Text(),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("JSON (-want +got):\n%s", diff)
	}
}

// TestJSONAsLinkerd: tls is in the metadata of the side that is not the proxy's own, and the
// scheme has Linkerd's name.
func TestJSONAsLinkerd(t *testing.T) {
	for _, c := range []struct {
		direction           mesh.Direction
		scheme              string
		source, destination any
		want                string
	}{
		{mesh.Outbound, "http", nil, "true", "HTTP"},
		{mesh.Inbound, "https", "true", nil, "HTTPS"},
		{mesh.Inbound, "ws", "true", nil, "ws"},
	} {
		data, err := JSON(event(tap.RequestInit, func(e *tap.Event) { e.Direction, e.Scheme = c.direction, c.scheme }))
		if err != nil {
			t.Fatal(err)
		}
		var got struct {
			Source, Destination struct{ Metadata map[string]any }
			RequestInitEvent    struct{ Scheme string }
		}
		if err := json.Unmarshal(data, &got); err != nil {
			t.Fatal(err)
		}
		if got.Source.Metadata["tls"] != c.source || got.Destination.Metadata["tls"] != c.destination || got.RequestInitEvent.Scheme != c.want {
			t.Errorf("got %s; want tls %v of the source, %v of the destination, scheme %s", data, c.source, c.destination, c.want)
		}
	}
}

// TestJSONHeaders: fields have Linkerd's shape.
func TestJSONHeaders(t *testing.T) {
	headers := &tap.Headers{List: []tap.Header{{Name: "accept", Value: "*/*"}, {Name: "cookie", Value: tap.Redacted}, {Name: "x-empty"}, {Name: "x-bytes", Value: "\xff"}}, Cut: true}
	const list = `[{"name":"accept","valueStr":"*/*"},{"name":"cookie","valueStr":"[redacted]"},{"name":"x-empty","valueStr":""},{"name":"x-bytes","valueBin":"/w=="}]`
	for kind, keys := range map[tap.Kind][2]string{
		tap.RequestInit: {"headers", "headersCut"}, tap.ResponseInit: {"headers", "headersCut"}, tap.ResponseEnd: {"trailers", "trailersCut"},
	} {
		for _, h := range []*tap.Headers{headers, nil} {
			data, err := JSON(event(kind, func(e *tap.Event) { e.Headers = h }))
			if err != nil {
				t.Fatal(err)
			}
			want := []string{`"` + keys[0] + `":[]`}
			if h != nil {
				want = []string{`"` + keys[0] + `":` + list, `"` + keys[1] + `":true`}
			}
			for _, part := range want {
				if !strings.Contains(string(data), part) {
					t.Errorf("kind %d: got %s, want %s in it", kind, data, part)
				}
			}
		}
	}
}

func TestJSONOneEventEach(t *testing.T) {
	for kind, key := range map[tap.Kind]string{
		tap.RequestInit: "requestInitEvent", tap.ResponseInit: "responseInitEvent", tap.ResponseEnd: "responseEndEvent",
		tap.ConnOpen: "connOpenEvent", tap.ConnClose: "connCloseEvent",
		tap.LegOpen: "connOpenEvent", tap.LegClose: "connCloseEvent",
	} {
		data, err := JSON(event(kind, nil))
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]any
		if err := json.Unmarshal(data, &got); err != nil {
			t.Fatal(err)
		}
		for k := range got {
			if strings.HasSuffix(k, "Event") && k != key {
				t.Errorf("kind %d has the key %s, want only %s", kind, k, key)
			}
		}
		if got[key] == nil {
			t.Errorf("kind %d: got %s, want the key %s", kind, data, key)
		}
	}
}

// TestJudged: the end of a call names the policy that refused it, or asks to report it.
func TestJudged(t *testing.T) {
	for want, f := range map[string]authz.Finding{
		" denied-by=Server/shop/api":                                           {Denied: true, Why: authz.WhyUnmatched, Object: "Server.policy.linkerd.io shop/api"},
		" denied-by=AuthorizationPolicy/shop/no rule=2":                        {Denied: true, Object: "AuthorizationPolicy.policy.underlane.io shop/no", Rule: "2"},
		" denied-by=no-policy-known":                                           {Denied: true},
		` rule=2 expression-failed="AuthorizationPolicy shop/no, rule 2: why"`: {Denied: true, Object: "AuthorizationPolicy.policy.underlane.io shop/no", Rule: "2", Failed: "AuthorizationPolicy.policy.underlane.io shop/no, rule 2: why"},
		" audited-by=default/audit":                                            {Audit: "default audit"},
		" would-be-denied-by=Server/shop/api":                                  {WouldDeny: "Server.policy.linkerd.io shop/api"},
		"response-length=0B":                                                   {Object: "Server.policy.linkerd.io shop/api"},
	} {
		e := tap.Event{Kind: tap.ResponseEnd, Judged: &calls.Entry{Finding: &f}}
		if got := string(Line(nil, &e, false)); !strings.HasSuffix(got, want) {
			t.Errorf("got %q, want it to end with %q", got, want)
		}
		text, err := JSON(&e)
		if err != nil || !strings.Contains(string(text), `"policy":{"verdict":"`+f.Verdict()+`"`) {
			t.Errorf("got %s, %v, want the verdict %s", text, err, f.Verdict())
		}
	}
}
