package extauth

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	pb "github.com/underlane/underlane/api/extauth/v1"
	"github.com/underlane/underlane/pkg/mesh"
)

func pairs(of ...string) iter.Seq2[string, string] {
	return func(yield func(name, value string) bool) {
		for i := 0; i < len(of); i += 2 {
			if !yield(of[i], of[i+1]) {
				return
			}
		}
	}
}

func bytePairs(of ...string) iter.Seq2[[]byte, []byte] {
	return func(yield func(name, value []byte) bool) {
		for n, v := range pairs(of...) {
			if !yield([]byte(n), []byte(v)) {
				return
			}
		}
	}
}

var asked = Request{
	ID: "7-1", Method: "PUT", Scheme: "http", Host: "shop:8080", Path: "/a?b=c", Protocol: "HTTP/1.1",
	Fields: pairs("Authorization", "Bearer x", "X-Token", "1", "x-token", "2", "Connection", "close", "X-Other", "no", "Expect", "100-continue",
		"Transfer-Encoding", "chunked", "Content-Length", "3", "X-Set", "by the client", "X-Bad", "a\xffb"),
	Source:      Peer{netip.MustParseAddrPort("10.0.0.1:4000"), "spiffe://d/ns/a/sa/b"},
	Destination: Peer{netip.MustParseAddrPort("[fd00::2]:8080"), ""},
}

func TestAskHTTP(t *testing.T) {
	for _, tc := range []struct {
		name   string
		as     mesh.ExternalAuth
		change func(*Request)
		body   string
		want   string
	}{
		{"least", mesh.ExternalAuth{}, nil, "", "PUT /a?b=c HTTP/1.1\r\nhost: shop:8080\r\nauthorization: Bearer x\r\ncontent-length: 0\r\n\r\n"},
		{
			"more",
			mesh.ExternalAuth{PathPrefix: "/check", RequestHeaders: mesh.FieldNames{"x-t*", "connection", "x-set"}, AddHeaders: []mesh.HeaderField{{Name: "x-set", Value: "here"}}},
			nil, "abc",
			"PUT /check/a?b=c HTTP/1.1\r\nhost: shop:8080\r\nauthorization: Bearer x\r\nx-token: 1\r\nx-token: 2\r\nx-set: here\r\ncontent-length: 3\r\n\r\nabc",
		},
		{"options", mesh.ExternalAuth{}, func(r *Request) { r.Method, r.Path, r.Fields = "OPTIONS", "*", pairs() }, "", "OPTIONS /* HTTP/1.1\r\nhost: shop:8080\r\ncontent-length: 0\r\n\r\n"},
		{"WebSocket over HTTP/2", mesh.ExternalAuth{}, func(r *Request) { r.Method, r.Extended, r.Fields = "CONNECT", true, pairs() }, "", "GET /a?b=c HTTP/1.1\r\nhost: shop:8080\r\ncontent-length: 0\r\n\r\n"},
		{"smuggling", mesh.ExternalAuth{}, func(r *Request) { r.Path, r.Fields = "/ HTTP/1.1\r\nx: y", pairs("authorization", "a\r\nb: c") }, "", "PUT /_HTTP/1.1__x:_y HTTP/1.1\r\nhost: shop:8080\r\nauthorization: a__b: c\r\ncontent-length: 0\r\n\r\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := asked
			if tc.change != nil {
				tc.change(&r)
			}
			q, err := Ask(&tc.as, &r)
			if err != nil {
				t.Fatal(err)
			}
			got, err := q.Message([]byte(tc.body), -1)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, string(got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if _, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(got))); err != nil {
				t.Errorf("net/http: %v", err)
			}
		})
	}
	r := asked
	r.Method = "CONNECT"
	if _, err := Ask(&mesh.ExternalAuth{}, &r); err == nil {
		t.Error("CONNECT is put to an authorizer of HTTP")
	}
}

func TestHTTPAnswer(t *testing.T) {
	as := mesh.ExternalAuth{UpstreamHeaders: mesh.FieldNames{"x-user", "host", "x-g*"}, AllowHeaders: mesh.FieldNames{"set-cookie"}, DenyHeaders: mesh.FieldNames{"location", "www-*"}}
	fields := bytePairs("X-User", "alice", "Host", "evil", "X-Group", "a", "x-group", "b", "Set-Cookie", "c=d", "Location", "/login", "WWW-Authenticate", "Basic", "Content-Length", "2", "Underlane-Reason", "fault")
	for _, tc := range []struct {
		status int
		want   Answer
	}{
		{200, Answer{
			Allowed: true, Remove: []string{"x-user", "x-group"},
			Add:      []mesh.HeaderField{{Name: "x-user", Value: "alice"}, {Name: "x-group", Value: "a"}, {Name: "x-group", Value: "b"}},
			Response: []mesh.HeaderField{{Name: "set-cookie", Value: "c=d"}},
		}},
		{302, Answer{Status: 302, Body: []byte("no"), Fields: []mesh.HeaderField{{Name: "location", Value: "/login"}, {Name: "www-authenticate", Value: "Basic"}}}},
		{204, Answer{Status: 403, Body: []byte("no"), Fields: []mesh.HeaderField{{Name: "location", Value: "/login"}, {Name: "www-authenticate", Value: "Basic"}}}},
	} {
		got, err := HTTPAnswer(&as, tc.status, fields, []byte("no"))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%d (-want +got):\n%s", tc.status, diff)
		}
	}
	var many []string
	for i := range MaxFields + 1 {
		many = append(many, fmt.Sprint("x-g", i), "")
	}
	if _, err := HTTPAnswer(&as, 200, bytePairs(many...), nil); !errors.Is(err, errTooLarge) {
		t.Errorf("with %d fields: %v, want an error", len(many)/2, err)
	}
}

func TestAskGRPC(t *testing.T) {
	of := func(headers ...string) ([]byte, error) {
		q, err := Ask(&mesh.ExternalAuth{GRPC: true, RequestHeaders: headers}, &asked)
		if err != nil {
			return nil, err
		}
		return q.Message([]byte("abc"), 3)
	}
	got, err := of("*")
	if err != nil {
		t.Fatal(err)
	}
	if got[0] != 0 || int(binary.BigEndian.Uint32(got[1:])) != len(got)-5 {
		t.Fatalf("prefix: %x of %d bytes", got[:5], len(got))
	}
	var in pb.CheckRequest
	if err := proto.Unmarshal(got[5:], &in); err != nil {
		t.Fatal(err)
	}
	h := in.GetAttributes().GetRequest().GetHttp()
	want := map[string]string{
		":method": "PUT", ":path": "/a?b=c", ":authority": "shop:8080", ":scheme": "http", "authorization": "Bearer x", "x-token": "1,2", "connection": "close",
		"x-other": "no", "expect": "100-continue", "transfer-encoding": "chunked", "content-length": "3", "x-set": "by the client", "x-bad": "a!b",
	}
	if diff := cmp.Diff(want, h.GetHeaders()); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
	a := in.GetAttributes()
	line := fmt.Sprint(h.GetId(), h.GetMethod(), h.GetPath(), h.GetHost(), h.GetScheme(), h.GetSize(), h.GetProtocol(), h.GetBody(),
		a.GetSource().GetAddress().GetSocketAddress().GetAddress(), a.GetSource().GetAddress().GetSocketAddress().GetPortValue(), a.GetSource().GetPrincipal(),
		a.GetDestination().GetAddress().GetSocketAddress().GetAddress())
	if want := fmt.Sprint("7-1", "PUT", "/a?b=c", "shop:8080", "http", 3, "HTTP/1.1", "abc", "10.0.0.1", 4000, "spiffe://d/ns/a/sa/b", "fd00::2"); line != want {
		t.Errorf("got %s, want %s", line, want)
	}
	got, err = of("x-other")
	if err != nil || proto.Unmarshal(got[5:], &in) != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"x-other": "no"}, in.GetAttributes().GetRequest().GetHttp().GetHeaders()); diff != "" {
		t.Errorf("with a list (-want +got):\n%s", diff)
	}
}

func message(t testing.TB, m *pb.CheckResponse) []byte {
	t.Helper()
	body, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(body))), body...)
}

func option(name, value string) *pb.HeaderValueOption {
	return &pb.HeaderValueOption{Header: &pb.HeaderValue{Key: name, Value: value}}
}

func ok(headers ...*pb.HeaderValueOption) *pb.CheckResponse {
	return &pb.CheckResponse{Status: &pb.Status{}, HttpResponse: &pb.CheckResponse_OkResponse{OkResponse: &pb.OkHttpResponse{Headers: headers}}}
}

func deny(status int32, body string, headers ...*pb.HeaderValueOption) *pb.CheckResponse {
	return &pb.CheckResponse{Status: &pb.Status{Code: 7}, HttpResponse: &pb.CheckResponse_DeniedResponse{
		DeniedResponse: &pb.DeniedHttpResponse{Status: &pb.HttpStatus{Code: status}, Body: body, Headers: headers},
	}}
}

func TestCheckAnswer(t *testing.T) {
	appended, absent, there := option("X-C", "4"), option("x-there", "5"), option("x-there", "6")
	appended.Append = wrapperspb.Bool(true)
	absent.AppendAction, there.AppendAction = pb.HeaderValueOption_ADD_IF_ABSENT, pb.HeaderValueOption_OVERWRITE_IF_EXISTS
	newAbsent, newThere := option("x-new", "7"), option("x-new2", "8")
	newAbsent.AppendAction, newThere.AppendAction = pb.HeaderValueOption_ADD_IF_ABSENT, pb.HeaderValueOption_OVERWRITE_IF_EXISTS
	removes := ok()
	removes.GetOkResponse().HeadersToRemove = []string{"X-Secret", "Host", ":path"}
	removes.GetOkResponse().ResponseHeadersToAdd = []*pb.HeaderValueOption{option("Set-Cookie", "a=b")}
	query := ok()
	query.GetOkResponse().QueryParametersToRemove = []string{"a"}
	future := option("x", "y")
	future.AppendAction = 17
	field := func(n, v string) mesh.HeaderField { return mesh.HeaderField{Name: n, Value: v} }
	for _, tc := range []struct {
		name string
		in   *pb.CheckResponse
		want Answer
		err  bool
	}{
		{"empty", &pb.CheckResponse{}, Answer{}, true},
		{"status alone", &pb.CheckResponse{Status: &pb.Status{}}, Answer{Allowed: true}, false},
		{"ok", ok(option("X-A", "1"), option("x-a", "2"), option("x-b", "3"), appended, absent, there, newAbsent, newThere), Answer{
			Allowed: true, Remove: []string{"x-a", "x-b", "x-there"},
			Add: []mesh.HeaderField{field("x-a", "1"), field("x-a", "2"), field("x-b", "3"), field("x-c", "4"), field("x-there", "6"), field("x-new", "7")},
		}, false},
		{"removes", removes, Answer{Allowed: true, Remove: []string{"x-secret"}, Response: []mesh.HeaderField{field("set-cookie", "a=b")}}, false},
		{"denied", deny(401, "no", option("WWW-Authenticate", "Basic"), option("content-length", "7")), Answer{Status: 401, Body: []byte("no"), Fields: []mesh.HeaderField{field("www-authenticate", "Basic")}}, false},
		{"denied without a word", &pb.CheckResponse{Status: &pb.Status{Code: 16}}, Answer{Status: 403}, false},
		{"denied with an odd status", deny(100, ""), Answer{Status: 403}, false},
		{"refusal without status", &pb.CheckResponse{HttpResponse: deny(404, "").HttpResponse}, Answer{Status: 404}, false},
		{"refusal with the status OK", &pb.CheckResponse{Status: &pb.Status{}, HttpResponse: deny(404, "").HttpResponse}, Answer{}, true},
		{"sets the path", ok(option(":path", "/admin")), Answer{}, true},
		{"sets Host", ok(option("Host", "x")), Answer{}, true},
		{"line break", ok(option("x", "a\r\nb: c")), Answer{}, true},
		{"bad name", ok(option("x y", "a")), Answer{}, true},
		{"no name", ok(option("", "a")), Answer{}, true},
		{"query", query, Answer{}, true},
		{"unknown action", ok(future), Answer{}, true},
	} {
		got, err := CheckAnswer(message(t, tc.in), func(name string) bool { return name == "x-there" })
		if (err != nil) != tc.err {
			t.Errorf("%s: error %v", tc.name, err)
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
	}
	for _, bad := range []string{"", "\x00\x00\x00\x00", "\x01\x00\x00\x00\x00", "\x00\x00\x00\x00\x02\x08", "\x00\x00\x00\x00\x01\xff"} {
		if _, err := CheckAnswer([]byte(bad), func(string) bool { return false }); err == nil {
			t.Errorf("%q is taken for an answer", bad)
		}
	}
}

// What comes of any answer can be sent on: nothing in it ends a line, frames a message or
// says where it goes.
func FuzzCheckAnswer(f *testing.F) {
	f.Add(message(f, ok(option("a", "b"))))
	f.Add(message(f, deny(403, "x", option("a", "b"))))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := CheckAnswer(data, func(name string) bool { return len(name)%2 == 0 })
		if err != nil {
			return
		}
		for _, fields := range [][]mesh.HeaderField{got.Add, got.Response, got.Fields} {
			for _, f := range fields {
				if bound(f.Name) || f.Name != strings.ToLower(f.Name) || strings.ContainsAny(f.Name+f.Value, "\r\n\x00") {
					t.Errorf("field %q: %q", f.Name, f.Value)
				}
			}
		}
		if !got.Allowed && (got.Status < 200 || got.Status > 599) {
			t.Errorf("status %d", got.Status)
		}
	})
}
