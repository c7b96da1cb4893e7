package http1

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// request parses one complete request head.
func request(t testing.TB, in string) (*Head, int) {
	t.Helper()
	var h Head
	n, err := ParseRequest([]byte(in), &h)
	if err != nil || n == 0 || !h.Complete() {
		t.Fatalf("ParseRequest(%q) = %d, %v", in, n, err)
	}
	return &h, n
}

// response parses one complete response head.
func response(t testing.TB, in string, asked Kind) (*Head, int) {
	t.Helper()
	var h Head
	n, err := ParseResponse([]byte(in), &h, asked)
	if err != nil || n == 0 {
		t.Fatalf("ParseResponse(%q) = %d, %v", in, n, err)
	}
	return &h, n
}

type seen struct {
	Method, Target, Path, Authority, Upgrade string
	Minor                                    int
	KeepAlive, GRPC                          bool
	Kind                                     Kind
	Body                                     BodyKind
}

func look(h *Head) seen {
	body := h.Body()
	return seen{
		Method: string(h.Method()), Target: string(h.Target()), Path: string(h.Path()),
		Authority: string(h.Authority()), Upgrade: string(h.Upgrade()), Minor: h.Minor(),
		KeepAlive: h.KeepAlive(), GRPC: h.IsGRPC(), Kind: h.Kind(), Body: body.Kind(),
	}
}

func TestParseRequest(t *testing.T) {
	for _, test := range []struct {
		name, in string
		want     seen
	}{
		{"plain", "GET /a?b=c HTTP/1.1\r\nHost: web:80\r\n\r\n", seen{Method: "GET", Target: "/a?b=c", Path: "/a?b=c", Authority: "web:80", Minor: 1, KeepAlive: true}},
		{"HTTP/1.0", "GET / HTTP/1.0\r\n\r\n", seen{Method: "GET", Target: "/", Path: "/", Kind: KindHTTP10}},
		{"HTTP/1.0 persistent", "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", seen{Method: "GET", Target: "/", Path: "/", Kind: KindHTTP10, KeepAlive: true}},
		{"close wins", "GET / HTTP/1.1\r\nHost:\r\nConnection: keep-alive, , CLOSE\r\n\r\n", seen{Method: "GET", Target: "/", Path: "/", Minor: 1}},
		{"absolute target", "GET http://a.b:8080/c?d HTTP/1.1\r\nHost: x\r\n\r\n", seen{Method: "GET", Target: "http://a.b:8080/c?d", Path: "/c?d", Authority: "a.b:8080", Minor: 1, KeepAlive: true}},
		{"absolute target without path", "GET http://[::1] HTTP/1.1\r\nHost: [::1]\r\n\r\n", seen{Method: "GET", Target: "http://[::1]", Authority: "[::1]", Minor: 1, KeepAlive: true}},
		{"asterisk", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", seen{Method: "OPTIONS", Target: "*", Path: "*", Authority: "a", Minor: 1, KeepAlive: true}},
		{"CONNECT", "CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", seen{Method: "CONNECT", Target: "a:443", Authority: "a:443", Minor: 1, KeepAlive: true, Kind: KindCONNECT}},
		{"IPv6 address without brackets", "GET / HTTP/1.1\r\nHost: fd00::1:8080\r\n\r\n", seen{Method: "GET", Target: "/", Path: "/", Authority: "fd00::1:8080", Minor: 1, KeepAlive: true}},
		{"HEAD", "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", seen{Method: "HEAD", Target: "/", Path: "/", Authority: "a", Minor: 1, KeepAlive: true, Kind: KindHEAD}},
		{"length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-Continue\r\n\r\n", seen{Method: "POST", Target: "/", Path: "/", Authority: "a", Minor: 1, KeepAlive: true, Body: BodyLength}},
		{"length nought", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", seen{Method: "POST", Target: "/", Path: "/", Authority: "a", Minor: 1, KeepAlive: true}},
		{"equal lengths", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", seen{Method: "POST", Target: "/", Path: "/", Authority: "a", Minor: 1, KeepAlive: true, Body: BodyLength}},
		{"chunked", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n", seen{Method: "POST", Target: "/", Path: "/", Authority: "a", Minor: 1, KeepAlive: true, Body: BodyChunked}},
		{"upgrade", "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n", seen{Method: "GET", Target: "/", Path: "/", Authority: "a", Minor: 1, KeepAlive: true, Upgrade: "websocket", Kind: KindUpgrade}},
		{"upgrade that Connection does not list", "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n", seen{Method: "GET", Target: "/", Path: "/", Authority: "a", Minor: 1, KeepAlive: true}},
		{"upgrade in HTTP/1.0", "GET / HTTP/1.0\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", seen{Method: "GET", Target: "/", Path: "/", Authority: "a", Kind: KindHTTP10}},
		{"upgrade to h2c is ignored", "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: H2C\r\nHTTP2-Settings: AAMAAABk\r\n\r\n", seen{Method: "GET", Target: "/", Path: "/", Authority: "a", Minor: 1, KeepAlive: true}},
		{"gRPC", "POST /a.B/C HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc+proto\r\n\r\n", seen{Method: "POST", Target: "/a.B/C", Path: "/a.B/C", Authority: "a", Minor: 1, KeepAlive: true, GRPC: true, Kind: KindGRPC}},
		{"gRPC-web", "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc-web\r\n\r\n", seen{Method: "POST", Target: "/", Path: "/", Authority: "a", Minor: 1, KeepAlive: true}},
		{"empty line first", "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", seen{Method: "GET", Target: "/", Path: "/", Authority: "a", Minor: 1, KeepAlive: true}},
		{"UTF-8 in target and value", "GET /é HTTP/1.1\r\nHost: a\r\nX: ü\r\n\r\n", seen{Method: "GET", Target: "/é", Path: "/é", Authority: "a", Minor: 1, KeepAlive: true}},
	} {
		t.Run(test.name, func(t *testing.T) {
			h, n := request(t, test.in+"next")
			if n != len(test.in) {
				t.Errorf("length %d, want %d", n, len(test.in))
			}
			if diff := cmp.Diff(test.want, look(h)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestRefusedRequest has a row for each smuggling technique, and for each rule that
// lenient parsers do not enforce.
func TestRefusedRequest(t *testing.T) {
	const host = "Host: a\r\n"
	line := func(fields string) string { return "POST / HTTP/1.1\r\n" + host + fields + "\r\n\r\n" }
	for name, in := range map[string]string{
		"CL.TE":                            line("Content-Length: 6\r\nTransfer-Encoding: chunked"),
		"TE.CL":                            line("Transfer-Encoding: chunked\r\nContent-Length: 6"),
		"TE.TE":                            line("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"),
		"TE twice":                         line("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
		"TE unknown":                       line("Transfer-Encoding: xchunked"),
		"TE identity":                      line("Transfer-Encoding: identity"),
		"TE chunked not last":              line("Transfer-Encoding: chunked, gzip"),
		"TE other coding first":            line("Transfer-Encoding: gzip, chunked"),
		"TE chunked twice in one":          line("Transfer-Encoding: chunked, chunked"),
		"TE quoted":                        line("Transfer-Encoding: \"chunked\""),
		"TE with parameter":                line("Transfer-Encoding: chunked;a=b"),
		"TE vertical tab":                  line("Transfer-Encoding: \x0bchunked"),
		"TE empty":                         line("Transfer-Encoding:"),
		"TE in HTTP/1.0":                   "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
		"TE space before colon":            line("Transfer-Encoding : chunked"),
		"TE tab before colon":              line("Transfer-Encoding\t: chunked"),
		"TE folded":                        line("Transfer-Encoding:\r\n chunked"),
		"CL differing":                     line("Content-Length: 5\r\nContent-Length: 6"),
		"CL differing in spelling":         line("Content-Length: 5\r\nContent-Length: 05"),
		"CL list":                          line("Content-Length: 5, 5"),
		"CL plus":                          line("Content-Length: +5"),
		"CL minus":                         line("Content-Length: -5"),
		"CL hexadecimal":                   line("Content-Length: 0x5"),
		"CL inner space":                   line("Content-Length: 5 6"),
		"CL empty":                         line("Content-Length:"),
		"CL over 63 bits":                  line("Content-Length: 9223372036854775808"),
		"CL long":                          line("Content-Length: 00000000000000000005"),
		"CL underscore":                    line("Content-Length: 1_0"),
		"bare LF after the request line":   "GET / HTTP/1.1\nHost: a\r\n\r\n",
		"bare LF after a field":            "GET / HTTP/1.1\r\nHost: a\n\r\n",
		"bare LF at the end":               "GET / HTTP/1.1\r\nHost: a\r\n\n",
		"bare CR in a value":               line("X: a\rb"),
		"bare CR in a name":                line("X\r: a"),
		"bare CR in the request line":      "GET /\r HTTP/1.1\r\n" + host + "\r\n",
		"CR CR LF":                         line("X: a\r"),
		"NUL in a value":                   line("X: a\x00b"),
		"NUL in a name":                    line("X\x00: a"),
		"DEL in a value":                   line("X: \x7f"),
		"control byte in a value":          line("X: \x01"),
		"folding":                          line("X: a\r\n b"),
		"folding with a tab":               line("X: a\r\n\tb"),
		"space before the first field":     "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
		"no colon":                         line("Host"),
		"no name":                          line(": a"),
		"name not a token":                 line("X(Y): a"),
		"name not ASCII":                   line("é: a"),
		"no Host":                          "GET / HTTP/1.1\r\n\r\n",
		"Host twice":                       "GET / HTTP/1.1\r\n" + host + host + "\r\n",
		"Host with user":                   "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
		"Host with path":                   "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
		"Host with space":                  "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
		"Host with backslash":              "GET / HTTP/1.1\r\nHost: a\\b\r\n\r\n",
		"Host with odd port":               "GET / HTTP/1.1\r\nHost: a:8x\r\n\r\n",
		"Host with long port":              "GET / HTTP/1.1\r\nHost: a:123456\r\n\r\n",
		"Host with open bracket":           "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n",
		"Host with port alone":             "GET / HTTP/1.1\r\nHost: :80\r\n\r\n",
		"preface":                          "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"asterisk of another method":       "GET * HTTP/1.1\r\n" + host + "\r\n",
		"preface as 1.1":                   "PRI * HTTP/1.1\r\n" + host + "\r\n",
		"version 1.2 without Host":         "GET / HTTP/1.2\r\n\r\n",
		"version 1.x":                      "GET / HTTP/1.x\r\n" + host + "\r\n",
		"version 1.":                       "GET / HTTP/1. \r\n" + host + "\r\n",
		"version 2.0":                      "GET / HTTP/2.0\r\n" + host + "\r\n",
		"version 01.1":                     "GET / HTTP/01.1\r\n" + host + "\r\n",
		"version lower case":               "GET / http/1.1\r\n" + host + "\r\n",
		"version 1.10":                     "GET / HTTP/1.10\r\n" + host + "\r\n",
		"HTTP/0.9":                         "GET /\r\n\r\n",
		"two spaces after the method":      "GET  / HTTP/1.1\r\n" + host + "\r\n",
		"two spaces before the version":    "GET /  HTTP/1.1\r\n" + host + "\r\n",
		"space after the version":          "GET / HTTP/1.1 \r\n" + host + "\r\n",
		"tab for a space":                  "GET\t/ HTTP/1.1\r\n" + host + "\r\n",
		"space before the method":          " GET / HTTP/1.1\r\n" + host + "\r\n",
		"space in the target":              "GET /a b HTTP/1.1\r\n" + host + "\r\n",
		"control byte in the target":       "GET /\x01 HTTP/1.1\r\n" + host + "\r\n",
		"NUL in the target":                "GET /\x00 HTTP/1.1\r\n" + host + "\r\n",
		"fragment in the target":           "GET /a#b HTTP/1.1\r\n" + host + "\r\n",
		"relative target":                  "GET a HTTP/1.1\r\n" + host + "\r\n",
		"no target":                        "GET  HTTP/1.1\r\n" + host + "\r\n",
		"absolute target with user":        "GET http://u:p@a/ HTTP/1.1\r\n" + host + "\r\n",
		"absolute target without host":     "GET http:///a HTTP/1.1\r\n" + host + "\r\n",
		"absolute target, backslash":       "GET http://a\\b/ HTTP/1.1\r\n" + host + "\r\n",
		"odd scheme":                       "GET 1http://a/ HTTP/1.1\r\n" + host + "\r\n",
		"CONNECT to a path":                "CONNECT / HTTP/1.1\r\n" + host + "\r\n",
		"CONNECT without port":             "CONNECT a HTTP/1.1\r\n" + host + "\r\n",
		"CONNECT with a body":              "CONNECT a:1 HTTP/1.1\r\n" + host + "Content-Length: 1\r\n\r\n",
		"method not a token":               "GE(T / HTTP/1.1\r\n" + host + "\r\n",
		"method too long":                  strings.Repeat("M", MaxMethod+1) + " / HTTP/1.1\r\n" + host + "\r\n",
		"two empty lines first":            "\r\n\r\nGET / HTTP/1.1\r\n" + host + "\r\n",
		"empty request line of a bare LF":  "\nGET / HTTP/1.1\r\n" + host + "\r\n",
		"Connection with an odd option":    line("Connection: close(now)"),
		"TLS":                              "\x16\x03\x01\x02\x00\n",
		"Content-Length hidden by newline": line("X: a\nContent-Length: 5"),
	} {
		t.Run(name, func(t *testing.T) {
			var h Head
			n, err := ParseRequest([]byte(in), &h)
			var bad *SyntaxError
			if n != 0 || !errors.As(err, &bad) {
				t.Fatalf("ParseRequest(%q) = %d, %v; want a syntax error", in, n, err)
			}
			if bad.Offset < 0 || bad.Offset > len(in) || bad.Reason == "" {
				t.Errorf("got %+v, want an offset within the input and a reason", bad)
			}
			if _, again := ParseRequest([]byte(in), &h); again != err {
				t.Errorf("second call: %v, want the same error", again)
			}
		})
	}
}

func TestParseResponse(t *testing.T) {
	type seen struct {
		Status             int
		KeepAlive, Interim bool
		Body               BodyKind
		Upgrade            string
	}
	for _, test := range []struct {
		name, in string
		asked    Kind
		want     seen
	}{
		{"length", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 0, seen{Status: 200, KeepAlive: true, Body: BodyLength}},
		{"chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 0, seen{Status: 200, KeepAlive: true, Body: BodyChunked}},
		{"until close", "HTTP/1.1 200 OK\r\n\r\n", 0, seen{Status: 200, Body: BodyUntilClose}},
		{"close", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", 0, seen{Status: 200}},
		{"HTTP/1.0", "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n", 0, seen{Status: 200, Body: BodyLength}},
		{"no reason phrase", "HTTP/1.1 404\r\nContent-Length: 0\r\n\r\n", 0, seen{Status: 404, KeepAlive: true}},
		{"empty reason phrase", "HTTP/1.1 404 \r\nContent-Length: 0\r\n\r\n", 0, seen{Status: 404, KeepAlive: true}},
		{"to HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", KindHEAD, seen{Status: 200, KeepAlive: true}},
		{"to HEAD, chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", KindHEAD, seen{Status: 200, KeepAlive: true}},
		{"204", "HTTP/1.1 204 No Content\r\n\r\n", 0, seen{Status: 204, KeepAlive: true}},
		{"304", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", 0, seen{Status: 304, KeepAlive: true}},
		{"100", "HTTP/1.1 100 Continue\r\n\r\n", 0, seen{Status: 100, KeepAlive: true, Interim: true}},
		{"103", "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n", 0, seen{Status: 103, KeepAlive: true, Interim: true}},
		{"101", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", KindUpgrade, seen{Status: 101, Body: BodyTunnel, Upgrade: "websocket"}},
		{"CONNECT", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", KindCONNECT, seen{Status: 200, Body: BodyTunnel}},
		{"CONNECT failed", "HTTP/1.1 503 No\r\nContent-Length: 5\r\n\r\n", KindCONNECT, seen{Status: 503, KeepAlive: true, Body: BodyLength}},
	} {
		t.Run(test.name, func(t *testing.T) {
			h, n := response(t, test.in+"next", test.asked)
			if n != len(test.in) {
				t.Errorf("length %d, want %d", n, len(test.in))
			}
			body := h.Body()
			got := seen{h.Status(), h.KeepAlive(), h.Interim(), body.Kind(), string(h.Upgrade())}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestRefusedResponse(t *testing.T) {
	for name, in := range map[string]string{
		"two digits":                        "HTTP/1.1 20 OK\r\n\r\n",
		"four digits":                       "HTTP/1.1 2000 OK\r\n\r\n",
		"not digits":                        "HTTP/1.1 2x0 OK\r\n\r\n",
		"below 100":                         "HTTP/1.1 099 OK\r\n\r\n",
		"two spaces":                        "HTTP/1.1  200 OK\r\n\r\n",
		"HTTP/2":                            "HTTP/2.0 200 OK\r\n\r\n",
		"ICY":                               "ICY 200 OK\r\n\r\n",
		"empty line first":                  "\r\nHTTP/1.1 200 OK\r\n\r\n",
		"control in reason":                 "HTTP/1.1 200 O\x01K\r\n\r\n",
		"CL differing":                      "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
		"TE unknown":                        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
		"101 not asked for":                 "HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
		"white space in a name":             "HTTP/1.1 200 OK\r\nX y: a\r\n\r\n",
		"no status line, but a folded one":  "HTTP/1.1 200 OK\r\n X: a\r\n\r\n",
		"a framing field that is folded":    "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n 2\r\n\r\n",
		"a folded line with a control byte": "HTTP/1.1 200 OK\r\nA: 1\r\n \x01\r\n\r\n",
		"CL and TE in HTTP/1.0":             "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
		"a list of different lengths":       "HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\n",
		"chunked and another coding":        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
		"white space and no colon":          "HTTP/1.1 200 OK\r\nX \t\r\n\r\n",
		"white space, CR and a colon":       "HTTP/1.1 200 OK\r\nX \r: a\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			var h Head
			var bad *SyntaxError
			if n, err := ParseResponse([]byte(in), &h, 0); n != 0 || !errors.As(err, &bad) {
				t.Fatalf("ParseResponse(%q) = %d, %v; want a syntax error", in, n, err)
			}
		})
	}
	var h Head
	if _, err := ParseResponse([]byte("HTTP/1.1 101 Switching\r\n\r\n"), &h, KindUpgrade); err == nil {
		t.Error("101 without Upgrade is accepted")
	}
}

// A head that arrives byte by byte, in a buffer that moves, has the same result as in one
// piece.
func TestIncremental(t *testing.T) {
	const in = "\r\nPOST /a HTTP/1.1\r\nHost: a\r\nX-Y:  z \r\nContent-Length: 3\r\n\r\n"
	whole, _ := request(t, in)
	var h Head
	for size := 1; size <= len(in); size++ {
		n, err := ParseRequest([]byte(in[:size]), &h)
		if err != nil || (n != 0) != (size == len(in)) {
			t.Fatalf("%d bytes: %d, %v", size, n, err)
		}
	}
	if diff := cmp.Diff(look(whole), look(&h)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := string(h.Get("x-y")); got != "z" {
		t.Errorf("X-Y = %q, want %q", got, "z")
	}
	if got := h.Get("absent"); got != nil {
		t.Errorf("absent field = %q, want nil", got)
	}
	// The same Head parses the next message.
	if _, err := ParseRequest([]byte("GET /next HTTP/1.0\r\n\r\n"), &h); err != nil || string(h.Path()) != "/next" || h.Get("Host") != nil {
		t.Errorf("next message: %v, path %q, Host %q; want nil, %q, none", err, h.Path(), h.Get("Host"), "/next")
	}
}

func TestFields(t *testing.T) {
	h, _ := request(t, "GET / HTTP/1.1\r\nhOST: a\r\nB:\t b b\t\r\nempty:\r\nb: c\r\n\r\n")
	var got []string
	for name, value := range h.Fields() {
		got = append(got, string(name)+"="+string(value))
	}
	if diff := cmp.Diff([]string{"hOST=a", "B=b b", "empty=", "b=c"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if v := h.Get("EMPTY"); v == nil || len(v) != 0 {
		t.Errorf("empty value: got %q, nil %v; want %q, false", v, v == nil, "")
	}
}

func TestHeadLimits(t *testing.T) {
	const start = "GET / HTTP/1.1\r\nHost: a\r\n"
	filler := strings.Repeat("X: 0123456789\r\n", MaxFields)
	for name, in := range map[string]string{
		"too many fields":           start + filler,
		"too many bytes":            start + "X: " + strings.Repeat("a", MaxHead),
		"too long a request line":   "GET /" + strings.Repeat("a", MaxHead),
		"end one byte too late":     start + "X: " + strings.Repeat("a", MaxHead-len(start)-len("X: \r\n\r\n")+1) + "\r\n\r\n",
		"too many hop-by-hop names": start + "Connection: " + strings.Repeat("a,", maxOptions+1) + "\r\n\r\n",
	} {
		var h Head
		if n, err := ParseRequest([]byte(in), &h); !errors.Is(err, ErrHeaderTooLarge) {
			t.Errorf("%s: %d, %v; want %v", name, n, err, ErrHeaderTooLarge)
		}
	}
	const status = "HTTP/1.1 200 OK\r\n"
	for name, in := range map[string]string{
		"too many fields": status + filler + "X: 1\r\n",
		"too many bytes":  status + "X: " + strings.Repeat("a", MaxHead),
		"interim":         "HTTP/1.1 103 E\r\nX: " + strings.Repeat("a", MaxHead),
	} {
		var h Head
		var syntax *SyntaxError
		if n, err := ParseResponse([]byte(in), &h, 0); !errors.Is(err, ErrHeaderTooLarge) || errors.As(err, &syntax) {
			t.Errorf("response, %s: %d, %v; want %v", name, n, err, ErrHeaderTooLarge)
		}
	}
	largest := start + "X: " + strings.Repeat("a", MaxHead-len(start)-len("X: \r\n\r\n")) + "\r\n\r\n"
	if _, n := request(t, largest+"next"); n != MaxHead {
		t.Errorf("largest head: got %d bytes, want %d", n, MaxHead)
	}
}

// TestIndexControl: eight bytes at a time find what one at a time finds, wherever it is.
func TestIndexControl(t *testing.T) {
	for c := range 256 {
		for length := range 20 {
			for at := range length {
				b := bytes.Repeat([]byte("\tx"), length)[:length]
				b[at] = byte(c)
				if got, want := indexControl(b), indexNot(b, cValue); got != want {
					t.Fatalf("%q: got %d, want %d", b, got, want)
				}
			}
		}
	}
	for length := range 40 {
		b := bytes.Repeat([]byte{0x80}, length)
		if got := indexControl(b); got != -1 {
			t.Errorf("%q: got %d, want -1", b, got)
		}
	}
}
