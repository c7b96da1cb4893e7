package reply

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/underlane/underlane/pkg/l7proxy/http1"
	"github.com/underlane/underlane/pkg/l7proxy/http2"
	"github.com/underlane/underlane/pkg/mesh"
)

func TestHTTP1(t *testing.T) {
	for _, test := range []struct {
		name    string
		asked   http1.Kind
		closing bool
		want    string
	}{
		{"plain", 0, false, "HTTP/1.1 503 Service Unavailable\r\nunderlane-reason: no-endpoints\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 34\r\n\r\nthe service has no ready endpoint\n"},
		{"HEAD", http1.KindHEAD, false, "HTTP/1.1 503 Service Unavailable\r\nunderlane-reason: no-endpoints\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 34\r\n\r\n"},
		{"HTTP/1.0", http1.KindHTTP10 | http1.KindHEAD, false, "HTTP/1.1 503 Service Unavailable\r\nunderlane-reason: no-endpoints\r\nconnection: keep-alive\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 34\r\n\r\n"},
		{"gRPC, closing", http1.KindGRPC, true, "HTTP/1.1 200 OK\r\nunderlane-reason: no-endpoints\r\nconnection: close\r\ncontent-type: application/grpc\r\ncontent-length: 0\r\ngrpc-status: 14\r\ngrpc-message: the service has no ready endpoint\r\n\r\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := Of(mesh.ReasonNoEndpoints)
			got := AppendHTTP1(nil, &r, test.asked, test.closing)
			if diff := cmp.Diff(test.want, string(got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// Every reason of the table makes a response that net/http reads, or none.
func TestReasons(t *testing.T) {
	for reason := range mesh.NumReasons {
		answer := Of(reason)
		got := AppendHTTP1(nil, &answer, 0, true)
		if reason.HTTPStatus() == 0 {
			if len(got) != 0 {
				t.Errorf("%v: %q, want nothing", reason, got)
			}
			continue
		}
		r, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(got)), nil)
		if err != nil {
			t.Errorf("%v: %v", reason, err)
			continue
		}
		body, err := io.ReadAll(r.Body)
		if err != nil || string(body) != reason.Text()+"\n" || r.StatusCode != reason.HTTPStatus() ||
			r.Header.Get(ReasonHeader) != reason.String() || !r.Close {
			t.Errorf("%v: %q, %v", reason, got, err)
		}
		if r.Status != strings.TrimSpace(r.Status) {
			t.Errorf("%v: no reason phrase for status %d", reason, r.StatusCode)
		}
	}
	if got := appendPercent(nil, "100% é\n"); string(got) != "100%25 %C3%A9%0A" {
		t.Errorf("appendPercent = %q", got)
	}
}

// The same answer over HTTP/2, and as a gRPC call's.
func TestHTTP2(t *testing.T) {
	for _, test := range []struct {
		name  string
		reply Reply
		grpc  bool
		want  []http2.Field
		body  string
	}{
		{"failure", Of(mesh.ReasonNoEndpoints), false, []http2.Field{
			{Name: ":status", Value: "503"},
			{Name: ReasonHeader, Value: "no-endpoints"},
			{Name: "content-type", Value: "text/plain; charset=utf-8"},
			{Name: "content-length", Value: "34"},
		}, "the service has no ready endpoint\n"},
		{"gRPC", Of(mesh.ReasonNoEndpoints), true, []http2.Field{
			{Name: ":status", Value: "200"},
			{Name: "content-type", Value: "application/grpc"},
			{Name: "grpc-status", Value: "14"},
			{Name: "grpc-message", Value: "the service has no ready endpoint"},
			{Name: ReasonHeader, Value: "no-endpoints"},
		}, ""},
		{"redirect", Reply{Status: 308, Location: "https://a/"}, false, []http2.Field{
			{Name: ":status", Value: "308"}, {Name: "location", Value: "https://a/"}, {Name: "content-length", Value: "0"},
		}, ""},
		{"fault without a body", Fault(204, false), false, []http2.Field{
			{Name: ":status", Value: "204"}, {Name: ReasonHeader, Value: "fault"},
		}, ""},
	} {
		fields, body := HTTP2(&test.reply, test.grpc)
		if diff := cmp.Diff(test.want, fields); diff != "" || body != test.body {
			t.Errorf("%s: body %q, want %q; fields (-want +got):\n%s", test.name, body, test.body, diff)
		}
	}
}

// Values of the header are read as they are written.
func TestParseReason(t *testing.T) {
	for _, unsent := range []bool{false, true} {
		r := Of(mesh.ReasonPodGone)
		r.Unsent = unsent
		for form, fields := range map[string][]http2.Field{"gRPC": GRPC(&r), "HTTP/2": func() []http2.Field { f, _ := HTTP2(&r, false); return f }()} {
			for _, f := range fields {
				if f.Name != ReasonHeader {
					continue
				}
				if got, was := ParseReason(f.Value); got != r.Reason || was != unsent {
					t.Errorf("%s: %q is %v, %v; want %v, %v", form, f.Value, got, was, r.Reason, unsent)
				}
			}
		}
		if got := string(AppendHTTP1(nil, &r, 0, true)); !strings.Contains(got, "\r\n"+ReasonHeader+": "+r.reason()+"\r\n") {
			t.Errorf("HTTP/1: %q has no %q", got, r.reason())
		}
	}
	for _, value := range []string{"", "nonsense", "; unsent", "pod-gone;unsent", "nonsense; unsent"} {
		if got, unsent := ParseReason(value); got != mesh.ReasonNone || unsent {
			t.Errorf("%q is %v, %v; want no reason", value, got, unsent)
		}
	}
}
