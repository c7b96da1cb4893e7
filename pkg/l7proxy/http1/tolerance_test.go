package http1

import (
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// mended is how the engine reads and forwards a message with a harmless error.
type mended struct {
	Forwarded string // the head
	Body      BodyKind
	KeepAlive bool
}

// TestFramingOfNoBody: a response that cannot have a body ends at its empty line,
// regardless of its framing fields (RFC 9112 §6.3), which are not forwarded.
func TestFramingOfNoBody(t *testing.T) {
	lines := map[string]struct {
		line  string
		asked Kind
		body  BodyKind
		more  string // fields that the status requires
	}{
		"204":     {line: "HTTP/1.1 204 No Content\r\n"},
		"100":     {line: "HTTP/1.1 100 Continue\r\n"},
		"103":     {line: "HTTP/1.1 103 Early Hints\r\n"},
		"101":     {line: "HTTP/1.1 101 Switching Protocols\r\n", asked: KindUpgrade, body: BodyTunnel, more: "Upgrade: a\r\nConnection: upgrade\r\n"},
		"CONNECT": {line: "HTTP/1.1 200 OK\r\n", asked: KindCONNECT, body: BodyTunnel},
	}
	for name, fields := range map[string]string{
		"length":             "Content-Length: 5\r\n",
		"two lengths":        "Content-Length: 5\r\nContent-Length: 6\r\n",
		"no number":          "Content-Length: x\r\n",
		"chunked":            "Transfer-Encoding: chunked\r\n",
		"chunked and length": "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
		"another coding":     "Transfer-Encoding: gzip\r\n",
	} {
		for status, l := range lines {
			t.Run(status+" "+name, func(t *testing.T) {
				h, n := response(t, l.line+"A: 1\r\n"+fields+l.more+"B: 2\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", l.asked)
				body := h.Body()
				got := mended{string(AppendResponseHead(nil, h, &Edits{})), body.Kind(), h.KeepAlive()}
				want := mended{l.line + "A: 1\r\n" + l.more + "B: 2\r\n\r\n", l.body, h.Interim()}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				if want := len(l.line + "A: 1\r\n" + fields + l.more + "B: 2\r\n\r\n"); n != want {
					t.Errorf("the head ends at byte %d, want %d", n, want)
				}
			})
		}
	}
	t.Run("length of nought stays", func(t *testing.T) {
		const in = "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"
		h, _ := response(t, in, 0)
		if got := string(AppendResponseHead(nil, h, &Edits{})); got != in || !h.KeepAlive() {
			t.Errorf("forwarded as %q, keep-alive %v; want %q, true", got, h.KeepAlive(), in)
		}
	})
}

// TestSpaceBeforeColon: in a response the field is valid, and it is forwarded without the
// white space (RFC 9112 §5.1). A request is refused.
func TestSpaceBeforeColon(t *testing.T) {
	for _, test := range []struct {
		name, in string
		edits    Edits
		want     mended
	}{
		{name: "space", in: "X : a\r\nContent-Length: 1\r\n", want: mended{"X: a\r\nContent-Length: 1\r\n", BodyLength, true}},
		{name: "spaces and tabs", in: "X \t  :a \r\nY: b\r\nContent-Length\t:1\r\n", want: mended{"X:a \r\nY: b\r\nContent-Length:1\r\n", BodyLength, true}},
		{name: "of every field", in: "A : 1\r\nB : 2\r\nC : 3\r\n", want: mended{"A: 1\r\nB: 2\r\nC: 3\r\n", BodyUntilClose, false}},
		{name: "length", in: "Content-Length : 3\r\n", want: mended{"Content-Length: 3\r\n", BodyLength, true}},
		{name: "chunked", in: "Transfer-Encoding : chunked\r\n", want: mended{"Transfer-Encoding: chunked\r\n", BodyChunked, true}},
		{name: "Connection", in: "Connection : close, X\r\nX : 1\r\nContent-Length: 0\r\n", want: mended{"Connection: keep-alive\r\nContent-Length: 0\r\n", BodyNone, false}},
		{name: "a field that is removed", in: "X : 1\r\nY : 2\r\n", edits: Edits{Remove: []string{"x"}}, want: mended{"Y: 2\r\n", BodyUntilClose, false}},
		{name: "colons in the value", in: "X : a:b : c\r\n", want: mended{"X: a:b : c\r\n", BodyUntilClose, false}},
		{name: "no value", in: "X :\r\n", want: mended{"X:\r\n", BodyUntilClose, false}},
	} {
		t.Run(test.name, func(t *testing.T) {
			const line = "HTTP/1.1 200 OK\r\n"
			h, _ := response(t, line+test.in+"\r\n", 0)
			body := h.Body()
			got := mended{string(AppendResponseHead(nil, h, &test.edits)), body.Kind(), h.KeepAlive()}
			test.want.Forwarded = line + test.want.Forwarded + "\r\n"
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			var request Head
			in := "GET / HTTP/1.1\r\nHost: a\r\n" + test.in + "\r\n"
			if n, err := ParseRequest([]byte(in), &request); n != 0 || err == nil {
				t.Errorf("ParseRequest(%q) = %d, %v; want a syntax error", in, n, err)
			}
		})
	}
}

// TestMinorVersions: all minor versions above 0 mean HTTP/1.1 (RFC 9110 §2.5). The version
// is forwarded unchanged.
func TestMinorVersions(t *testing.T) {
	for minor := range 10 {
		version := "HTTP/1." + strconv.Itoa(minor)
		t.Run(version, func(t *testing.T) {
			in := "GET / " + version + "\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: a\r\n\r\n"
			h, _ := request(t, in)
			got := look(h)
			want := seen{Method: "GET", Target: "/", Path: "/", Authority: "a", Kind: KindHTTP10}
			if minor > 0 {
				want = seen{Method: "GET", Target: "/", Path: "/", Authority: "a", KeepAlive: true, Upgrade: "a", Kind: KindUpgrade}
			}
			want.Minor = minor
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("request (-want +got):\n%s", diff)
			}
			in = version + " 200 OK\r\nContent-Length: 1\r\n\r\n"
			h, _ = response(t, in, 0)
			if got, want := h.KeepAlive(), minor > 0; got != want {
				t.Errorf("response: keep-alive %v, want %v", got, want)
			}
			if got := string(AppendResponseHead(nil, h, &Edits{})); got != in {
				t.Errorf("response: forwarded as %q, want %q", got, in)
			}
		})
	}
}

// TestHostWithoutBrackets: an IPv6 address without brackets is accepted as the value of
// Host, with or without a port, and forwarded unchanged. As a target it is refused.
func TestHostWithoutBrackets(t *testing.T) {
	for host, accepted := range map[string]bool{
		"::1:8080":             true,
		"::1":                  true,
		"::":                   true,
		"fd00::7:443":          true,
		"1:2:3:4:5:6:7:8":      true,
		"1:2:3:4:5:6:7:8:80":   true,
		"::ffff:10.0.0.1:80":   true,
		"FE80::A:80":           true,
		"a:80:80":              false,
		"10.0.0.1:80:80":       false,
		"::1:":                 false,
		"::1:123456":           false,
		"::1:8x":               false,
		"::g:80":               false,
		":::":                  false,
		"1:2:3:4:5:6:7:8:9:80": false,
		"fe80::1%eth0":         false,
		"fe80::1%eth0:80":      false,
		"u@::1:80":             false,
		"::1:80/x":             false,
		"::1:80,a":             false,
		"::1]:80":              false,
		"::1 :80":              false,
	} {
		t.Run(host, func(t *testing.T) {
			in := "GET / HTTP/1.1\r\nHost: " + host + "\r\n\r\n"
			var h Head
			n, err := ParseRequest([]byte(in), &h)
			if got := err == nil && n == len(in); got != accepted {
				t.Errorf("ParseRequest(%q) = %d, %v; want accepted %v", in, n, err, accepted)
			}
			if accepted {
				if out := string(AppendRequestHead(nil, &h, &Edits{})); out != in || string(h.Authority()) != host {
					t.Errorf("forwarded as %q with authority %q, want %q with %q", out, h.Authority(), in, host)
				}
			}
			for _, line := range []string{"GET http://" + host + "/", "CONNECT " + host} {
				in := line + " HTTP/1.1\r\nHost: a\r\n\r\n"
				if n, err := ParseRequest([]byte(in), new(Head)); err == nil {
					t.Errorf("ParseRequest(%q) = %d, want a syntax error", in, n)
				}
			}
		})
	}
}

// TestMendedResponses: errors that every client reads in the same way are mended in a
// response, and refused in a request.
func TestMendedResponses(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\n"
	for _, test := range []struct {
		name, in string
		edits    Edits
		want     mended
	}{
		{name: "LF alone", in: "HTTP/1.1 200 OK\nX: a\nContent-Length: 1\n\n", want: mended{ok + "X: a\r\nContent-Length: 1\r\n\r\n", BodyLength, true}},
		{name: "LF of one line", in: ok + "X: a\nContent-Length: 1\r\n\r\n", want: mended{ok + "X: a\r\nContent-Length: 1\r\n\r\n", BodyLength, true}},
		{name: "LF at the end", in: "HTTP/1.0 200 OK\r\nX: a\r\n\n", want: mended{"HTTP/1.0 200 OK\r\nX: a\r\n\r\n", BodyUntilClose, false}},
		{name: "LF, and an edit", in: "HTTP/1.1 200 OK\nX: a\nContent-Length: 1\n\n", edits: Edits{Remove: []string{"x"}, Add: []Field{{Name: "y", Value: "b"}}}, want: mended{ok + "Content-Length: 1\r\ny: b\r\n\r\n", BodyLength, true}},
		{name: "folded", in: ok + "X: a\r\n \t b c\r\nContent-Length: 1\r\n\r\n", want: mended{ok + "X: a   \t b c\r\nContent-Length: 1\r\n\r\n", BodyLength, true}},
		{name: "folded twice", in: ok + "X:\r\n a\r\n\tb\r\nContent-Length: 1\r\n\r\n", want: mended{ok + "X: a  \tb\r\nContent-Length: 1\r\n\r\n", BodyLength, true}},
		{name: "folded, and nothing in it", in: ok + "X: a\r\n \r\nContent-Length: 1\r\n\r\n", want: mended{ok + "X: a\r\nContent-Length: 1\r\n\r\n", BodyLength, true}},
		{name: "folded, LF alone", in: "HTTP/1.1 200 OK\nX: a\n b\nContent-Length: 1\n\n", want: mended{ok + "X: a  b\r\nContent-Length: 1\r\n\r\n", BodyLength, true}},
		{name: "a list of the same length", in: ok + "Content-Length: 5, 5,5\r\n\r\n", want: mended{ok + "Content-Length: 5\r\n\r\n", BodyLength, true}},
		{name: "and again", in: ok + "Content-Length: 5, 5\r\nContent-Length: 5\r\n\r\n", want: mended{ok + "Content-Length: 5\r\n\r\n", BodyLength, true}},
		{name: "chunked twice", in: ok + "Transfer-Encoding: chunked\r\nX: a\r\nTransfer-Encoding: Chunked\r\n\r\n", want: mended{ok + "Transfer-Encoding: chunked\r\nX: a\r\n\r\n", BodyChunked, true}},
		{name: "chunked twice in a list", in: ok + "Transfer-Encoding: chunked, chunked\r\n\r\n", want: mended{ok + "Transfer-Encoding: chunked\r\n\r\n", BodyChunked, true}},
		{name: "identity", in: ok + "Transfer-Encoding: identity\r\nContent-Length: 2\r\n\r\n", want: mended{ok + "Content-Length: 2\r\n\r\n", BodyLength, true}},
		{name: "identity and chunked", in: ok + "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n", want: mended{ok + "Transfer-Encoding: chunked\r\n\r\n", BodyChunked, true}},
		{name: "length and chunked", in: ok + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", want: mended{ok + "Transfer-Encoding: chunked\r\n\r\n", BodyChunked, false}},
		{name: "chunked and length", in: ok + "Transfer-Encoding: chunked\r\nContent-Length: 0\r\nX: a\r\n\r\n", want: mended{ok + "Transfer-Encoding: chunked\r\nX: a\r\n\r\n", BodyChunked, false}},
		{name: "chunked of HTTP/1.0", in: "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n", want: mended{"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n", BodyUntilClose, false}},
	} {
		t.Run(test.name, func(t *testing.T) {
			h, n := response(t, test.in+"next", 0)
			if n != len(test.in) {
				t.Errorf("the head ends at byte %d, want %d", n, len(test.in))
			}
			body := h.Body()
			got := mended{string(AppendResponseHead(nil, h, &test.edits)), body.Kind(), h.KeepAlive()}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			start, fields, _ := strings.Cut(test.in, "\n")
			in := "POST / " + strings.TrimSuffix(start, " 200 OK\r") + "\r\nHost: a\r\n" + fields
			if strings.HasSuffix(start, " OK") { // LF alone
				in = "POST / HTTP/1.1\nHost: a\r\n" + fields
			}
			if n, err := ParseRequest([]byte(in), new(Head)); n != 0 || err == nil {
				t.Errorf("ParseRequest(%q) = %d, %v; want a syntax error", in, n, err)
			}
		})
	}
}

// TestPaddedChunkSize: white space behind the size of a chunk is accepted of a response.
func TestPaddedChunkSize(t *testing.T) {
	for in, accepted := range map[string]bool{
		"2  \r\nok\r\n0\t\r\n\r\n":  true,
		"2 ;a=b\r\nok\r\n0\r\n\r\n": true,
		" 2\r\nok\r\n0\r\n\r\n":     false,
		"2 \nok\r\n0\r\n\r\n":       false,
	} {
		h, _ := response(t, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 0)
		body := h.Body()
		n, done, err := body.Next([]byte(in))
		if got := err == nil && done && n == len(in); got != accepted {
			t.Errorf("response with %q: %d, %v, %v; want accepted %v", in, n, done, err, accepted)
		}
		h, _ = request(t, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
		body = h.Body()
		if n, done, err := body.Next([]byte(in)); err == nil {
			t.Errorf("request with %q: %d, %v; want a syntax error", in, n, done)
		}
	}
}
