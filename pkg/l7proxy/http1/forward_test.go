package http1

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestForwardRequest(t *testing.T) {
	const (
		get     = "GET / HTTP/1.1\r\n"
		host    = "Host: a\r\n"
		another = "x-Other:  1 \r\n"
	)
	for _, test := range []struct {
		name, in, want string
		edits          Edits
	}{
		{name: "nothing to change", in: get + another + host + "a:b\r\n", want: get + another + host + "a:b\r\n"},
		{name: "empty line first", in: "\r\n" + get + host, want: get + host},
		{name: "hop-by-hop", in: get + "Connection: close\r\n" + host + "Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\n" + another, want: get + host + another},
		{name: "listed by Connection", in: get + "X-A: 1\r\n" + host + "Connection: x-a, X-B\r\nx-b: 2\r\nX-C: 3\r\n", want: get + host + "X-C: 3\r\n"},
		{name: "framing listed by Connection stays", in: get + host + "Connection: host, content-length\r\nContent-Length: 0\r\n", want: get + host + "Content-Length: 0\r\n"},
		{name: "Transfer-Encoding stays", in: get + host + "Transfer-Encoding: chunked\r\nConnection: transfer-encoding\r\n", want: get + host + "Transfer-Encoding: chunked\r\n"},
		{name: "Connection in its place", in: get + "connection: keep-alive\r\n" + host, want: get + "Connection: close\r\n" + host, edits: Edits{Connection: ConnectionClose}},
		{name: "Connection at the end", in: get + host, want: get + host + "Connection: keep-alive\r\n", edits: Edits{Connection: ConnectionKeepAlive}},
		{name: "two Connection fields", in: get + "Connection: a\r\n" + host + "Connection: b\r\nb: 1\r\na: 1\r\n", want: get + host},
		{name: "TE trailers", in: get + host + "TE: gzip, trailers\r\nConnection: TE\r\n", want: get + host + "Connection: te\r\nTE: trailers\r\n"},
		{name: "TE otherwise", in: get + host + "TE: gzip\r\nConnection: TE\r\n", want: get + host},
		{name: "upgrade", in: get + host + "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n", want: get + host + "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"},
		{name: "upgrade to h2c", in: get + host + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n", want: get + host},
		{name: "upgrade not listed", in: get + host + "Upgrade: websocket\r\n", want: get + host},
		{name: "equal lengths", in: get + host + "Content-Length: 0\r\nX: 1\r\nContent-Length: 0\r\n", want: get + host + "Content-Length: 0\r\nX: 1\r\n"},
		{name: "Host behind an absolute target", in: "GET http://b:1/ HTTP/1.1\r\nhost:a\r\n" + another, want: "GET http://b:1/ HTTP/1.1\r\nhost: b:1\r\n" + another},
		{name: "same Host as the absolute target", in: "GET http://A/ HTTP/1.1\r\n" + host, want: "GET http://A/ HTTP/1.1\r\n" + host},
		{name: "target", in: get + host, want: "GET /new?x HTTP/1.1\r\n" + host, edits: Edits{Target: "/new?x"}},
		{name: "host", in: get + host + another, want: get + "Host: new\r\n" + another, edits: Edits{Host: "new"}},
		{name: "set a field", in: get + "X: 1\r\n" + host + "x: 2\r\n", want: get + host + "X: 3\r\nY: 4\r\n", edits: Edits{Remove: []string{"X", "host"}, Add: []Field{{Name: "X", Value: "3"}, {Name: "Y", Value: "4"}}}},
		{name: "no injection", in: get + host, want: "GET /__X:_y HTTP/1.1\r\n" + host + "A_: b__c\r\n", edits: Edits{Target: "/\r\nX: y", Add: []Field{{Name: "A:", Value: "b\r\nc"}}}},
		{name: "HTTP/1.0 without fields", in: "GET / HTTP/1.0\r\n", want: "GET / HTTP/1.0\r\nConnection: keep-alive\r\n", edits: Edits{Connection: ConnectionKeepAlive}},
	} {
		t.Run(test.name, func(t *testing.T) {
			h, _ := request(t, test.in+"\r\n")
			got := AppendRequestHead([]byte("before"), h, &test.edits)
			if diff := cmp.Diff("before"+test.want+"\r\n", string(got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestForwardResponse(t *testing.T) {
	for _, test := range []struct {
		name, in, want string
		asked          Kind
		edits          Edits
	}{
		{name: "nothing to change", in: "HTTP/1.1 200 OK\r\nserver: x\r\n", want: "HTTP/1.1 200 OK\r\nserver: x\r\n"},
		{name: "close", in: "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nX: 1\r\n", want: "HTTP/1.1 200 OK\r\nConnection: close\r\nX: 1\r\n", edits: Edits{Connection: ConnectionClose}},
		{name: "interim", in: "HTTP/1.1 103 Early\r\nLink: a\r\n", want: "HTTP/1.1 103 Early\r\nLink: a\r\n", edits: Edits{Connection: ConnectionClose}},
		{name: "switched", in: "HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n", want: "HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n", asked: KindUpgrade, edits: Edits{Connection: ConnectionClose}},
		{name: "upgrade on offer", in: "HTTP/1.1 200 OK\r\nUpgrade: h2,h2c\r\nConnection: Upgrade\r\n", want: "HTTP/1.1 200 OK\r\n"},
		{name: "upgrade required", in: "HTTP/1.1 426 U\r\nUpgrade: TLS/1.0\r\nConnection: Upgrade\r\n", want: "HTTP/1.1 426 U\r\nUpgrade: TLS/1.0\r\nConnection: Upgrade\r\n"},
		{name: "Target and Host mean nothing", in: "HTTP/1.1 200 OK\r\nHost: a\r\n", want: "HTTP/1.1 200 OK\r\nHost: a\r\n", edits: Edits{Target: "/", Host: "b"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			h, _ := response(t, test.in+"\r\n", test.asked)
			got := AppendResponseHead(nil, h, &test.edits)
			if diff := cmp.Diff(test.want+"\r\n", string(got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

const (
	typicalRequest = "POST /api/vote?choice=:doughnut: HTTP/1.1\r\nHost: web-svc.emojivoto:80\r\nUser-Agent: curl/8.5.0\r\n" +
		"Accept: application/json\r\nAccept-Encoding: gzip, deflate\r\nContent-Type: application/json\r\nContent-Length: 64\r\n" +
		"X-Request-Id: 1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n"
	typicalResponse = "HTTP/1.1 200 OK\r\nDate: Mon, 01 Jan 2026 00:00:00 GMT\r\nContent-Type: application/json\r\n" +
		"Content-Length: 1024\r\nCache-Control: no-store\r\nVary: Accept-Encoding\r\n\r\n"
)

func TestNoAllocations(t *testing.T) {
	var h Head
	out := make([]byte, 0, 4096)
	body := make([]byte, 64)
	edited := Edits{Connection: ConnectionClose, Remove: []string{"user-agent"}, Add: []Field{{Name: "X", Value: "y"}}}
	requestBytes, responseBytes := []byte(typicalRequest), []byte(typicalResponse)
	exchange := func() {
		for _, edits := range []*Edits{{}, &edited} {
			if _, err := ParseRequest(requestBytes, &h); err != nil {
				t.Fatal(err)
			}
			out = AppendRequestHead(out[:0], &h, edits)
			if h.Get("traceparent") == nil {
				t.Fatal("no traceparent")
			}
			for name := range h.Fields() {
				_ = name
			}
			b, kind := h.Body(), h.Kind()
			if _, done, _ := b.Next(body); !done {
				t.Fatal("body not done")
			}
			if _, err := ParseResponse(responseBytes, &h, kind); err != nil {
				t.Fatal(err)
			}
			out = AppendResponseHead(out[:0], &h, edits)
		}
	}
	exchange() // the first message allocates the memory that later ones reuse
	if n := testing.AllocsPerRun(100, exchange); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func BenchmarkForwardRequest(b *testing.B)  { benchmark(b, typicalRequest, &Edits{}) }
func BenchmarkForwardResponse(b *testing.B) { benchmark(b, typicalResponse, &Edits{}) }
func BenchmarkForwardEdited(b *testing.B) {
	benchmark(b, strings.Replace(typicalRequest, "Accept:", "Connection: keep-alive\r\nAccept:", 1), &Edits{Add: []Field{{Name: "X", Value: "y"}}})
}

func benchmark(b *testing.B, head string, edits *Edits) {
	var h Head
	in, out := []byte(head), make([]byte, 0, 4096)
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := h.parse(in, in[0] == 'H', 0); err != nil {
			b.Fatal(err)
		}
		out = appendHead(out[:0], &h.message, edits)
	}
}
