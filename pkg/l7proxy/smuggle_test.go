package l7proxy

import (
	"fmt"
	"strings"
	"testing"

	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

// smuggled is a request that hides in another: an endpoint that sees it, or a
// client that gets an answer to it, has been fooled.
const smuggled = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"

// TestH1Smuggling has a vector for each known way to make two parsers disagree
// about where a request ends. Each is refused with 400 and the connection closed,
// and the endpoint sees nothing of it, also behind a request that is good.
func TestH1Smuggling(t *testing.T) {
	post := func(fields, body string) string {
		return "POST / HTTP/1.1\r\nHost: x\r\n" + fields + "\r\n\r\n" + body
	}
	chunked := func(body string) string { return post("Transfer-Encoding: chunked", body) }
	e, b := newEnv(t), newBackend(t)
	to := e.to(b.addr)
	refused := 0
	for name, request := range map[string]string{
		"CL.TE":                       post("Content-Length: 6\r\nTransfer-Encoding: chunked", "0\r\n\r\n"),
		"TE.CL":                       post("Transfer-Encoding: chunked\r\nContent-Length: 3", "0\r\n\r\n"),
		"TE.TE":                       post("Transfer-Encoding: chunked\r\nTransfer-Encoding: cow", "0\r\n\r\n"),
		"TE.TE identity":              post("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked", "0\r\n\r\n"),
		"TE not chunked":              post("Transfer-Encoding: xchunked", "0\r\n\r\n"),
		"TE after another coding":     post("Transfer-Encoding: gzip, chunked", "0\r\n\r\n"),
		"TE twice in one":             post("Transfer-Encoding: chunked, chunked", "0\r\n\r\n"),
		"TE with a vertical tab":      post("Transfer-Encoding: \x0bchunked", "0\r\n\r\n"),
		"TE with a quote":             post(`Transfer-Encoding: "chunked"`, "0\r\n\r\n"),
		"TE in HTTP/1.0":              "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"CL duplicate":                post("Content-Length: 5\r\nContent-Length: 6", "hello"),
		"CL list":                     post("Content-Length: 5, 6", "hello"),
		"CL plus":                     post("Content-Length: +5", "hello"),
		"CL minus":                    post("Content-Length: -5", "hello"),
		"CL hexadecimal":              post("Content-Length: 0x5", "hello"),
		"CL fraction":                 post("Content-Length: 5.0", "hello"),
		"CL overflow":                 post("Content-Length: 18446744073709551621", "hello"), // 5 modulo 2^64
		"CL with a space inside":      post("Content-Length: 1 5", "hello"),
		"CL empty":                    post("Content-Length:", "hello"),
		"folding":                     post("X: a\r\n Content-Length: 5", "hello"),
		"folding of TE":               post("Transfer-Encoding:\r\n chunked", "0\r\n\r\n"),
		"space before the first":      "POST / HTTP/1.1\r\n Host: x\r\nContent-Length: 0\r\n\r\n",
		"bare LF after a field":       "POST / HTTP/1.1\r\nHost: x\nContent-Length: 5\r\n\r\nhello",
		"bare LF everywhere":          "GET / HTTP/1.1\nHost: x\n\n",
		"bare CR in a value":          post("X: a\rContent-Length: 5", "hello"),
		"bare CR before a name":       post("\rContent-Length: 5", "hello"),
		"CR CR LF":                    post("X: a\r", ""),
		"NUL in a value":              post("X: a\x00b", ""),
		"space before colon":          post("Content-Length : 5", "hello"),
		"space before colon of TE":    post("Transfer-Encoding : chunked", "0\r\n\r\n"),
		"tab before colon":            post("Transfer-Encoding\t: chunked", "0\r\n\r\n"),
		"no name":                     post(": chunked", ""),
		"no colon":                    post("Content-Length", ""),
		"no Host":                     "GET / HTTP/1.1\r\n\r\n",
		"Host twice":                  "GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
		"space in the target":         "GET /a HTTP/1.1 HTTP/1.1\r\nHost: x\r\n\r\n",
		"LF in the target":            "GET /a\nX: y HTTP/1.1\r\nHost: x\r\n\r\n",
		"user in the target":          "GET http://a@x/ HTTP/1.1\r\nHost: x\r\n\r\n",
		"chunk size sign":             chunked("+0\r\n\r\n"),
		"chunk size with 0x":          chunked("0x0\r\n\r\n"),
		"chunk size with underscore":  chunked("0_0\r\n\r\n"),
		"chunk size empty":            chunked("\r\n\r\n"),
		"chunk size overflow":         chunked("10000000000000000\r\n"), // 0 modulo 2^64
		"chunk size of 63 bits":       chunked("8000000000000000\r\n"),
		"chunk size, space":           chunked("0 \r\n\r\n"),
		"chunk size, bare LF":         chunked("0\n\r\n"),
		"chunk extension, bare LF":    chunked("0;a\n\r\n\r\n"),
		"chunk extension, bare CR":    chunked("0;a\rb\r\n\r\n"),
		"chunk extension, space":      chunked("0 ;a\r\n\r\n"),
		"chunk data longer":           chunked("1\r\nabc\r\n0\r\n\r\n"),
		"chunk data, bare LF":         chunked("1\r\na\n0\r\n\r\n"),
		"trailer Content-Length":      chunked("0\r\nContent-Length: 5\r\n\r\n"),
		"trailer Transfer-Encoding":   chunked("0\r\nTransfer-Encoding: chunked\r\n\r\n"),
		"trailer folded":              chunked("0\r\nX: a\r\n b\r\n\r\n"),
		"trailer, space before colon": chunked("0\r\nX : a\r\n\r\n"),
	} {
		t.Run(name, func(t *testing.T) {
			for _, before := range []string{"", get} {
				if before == "" && name == "LF in the target" {
					continue // a first line that is no request line: the bytes are not HTTP at all
				}
				refused++
				c := dialTCP(t, to)
				if before != "" {
					c.send(before)
					srv := b.request()
					srv.expect(before)
					srv.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
					if resp, _ := c.response("GET"); resp.StatusCode != 200 || resp.Close {
						t.Fatalf("the request before: %d %v", resp.StatusCode, resp.Header)
					}
				}
				c.send(request + smuggled)
				resp, _ := c.response("POST")
				if resp.StatusCode != 400 || resp.Header.Get("underlane-reason") != "bad-request" || !resp.Close {
					t.Errorf("got %d %v, want 400 with underlane-reason: bad-request, and the end of the connection", resp.StatusCode, resp.Header)
				}
				c.expectEnd(nil)
			}
		})
	}
	b.none()
	proxytest.Eventually(t, fmt.Sprintf("%d requests are told as bad-request", refused), func() bool {
		return e.tap.Count(tap.ResponseEnd, mesh.ReasonBadRequest) == refused
	})
}

// TestH1ResponseSplitting is the same from the other side: what an endpoint
// answers cannot become two responses.
func TestH1ResponseSplitting(t *testing.T) {
	e, b := newEnv(t), newBackend(t)
	to := e.to(b.addr)
	for name, response := range map[string]string{
		"CL duplicate":       "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\n",
		"CL minus":           "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
		"TE not chunked":     "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n",
		"bare CR":            "HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 0\r\n\r\n",
		"folded length":      "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n 0\r\n\r\n",
		"space inside names": "HTTP/1.1 200 OK\r\nContent Length: 0\r\n\r\n",
		"101 unasked":        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			c := dialTCP(t, to)
			c.send(get)
			srv := b.request()
			srv.expect(get)
			srv.send(response + "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad")
			resp, body := c.response("GET")
			if resp.StatusCode != 502 || resp.Header.Get("underlane-reason") != "bad-response" || strings.Contains(body, "bad\n") {
				t.Errorf("got %d %v %q, want 502 with underlane-reason: bad-response, and nothing of the endpoint's", resp.StatusCode, resp.Header, body)
			}
		})
	}
}

// TestH1MendedResponse: a response with an error that all clients read alike arrives as it
// should have been. What its sender sent behind it belongs to no client.
func TestH1MendedResponse(t *testing.T) {
	e, b := newEnv(t), newBackend(t)
	to := e.to(b.addr)
	const chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
	for name, test := range map[string]struct{ response, want string }{
		"CL.TE":         {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", chunked},
		"TE twice":      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", chunked},
		"list":          {"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"},
		"bare LF":       {"HTTP/1.1 200 OK\nX: a\nContent-Length: 2\n\nok", "HTTP/1.1 200 OK\r\nX: a\r\nContent-Length: 2\r\n\r\nok"},
		"folding":       {"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 200 OK\r\nX: a   b\r\nContent-Length: 2\r\n\r\nok"},
		"padded chunks": {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2  \r\nok\r\n0\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2  \r\nok\r\n0\r\n\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			c := dialTCP(t, to)
			c.send(get)
			srv := b.request()
			srv.expect(get)
			srv.send(test.response + "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad")
			c.expect(test.want)
			c.send(get)
			srv = b.request()
			srv.expect(get)
			srv.send("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
			c.expect("HTTP/1.1 204 No Content\r\nConnection: keep-alive\r\n\r\n")
		})
	}
}

// TestH2Smuggling: what a proxy that speaks HTTP/1 behind would turn into two
// requests (H2.CL, H2.TE, fields injected through values and pseudo-header
// fields) is refused with 400 and the stream reset, whatever is behind.
func TestH2Smuggling(t *testing.T) {
	b := newBackend(t)
	e := newH2Env(t, b.addr)
	with := func(more ...string) []string {
		return append([]string{":method", "POST", ":scheme", "http", ":path", "/", ":authority", "a"}, more...)
	}
	pseudo := func(name, value string) []string {
		f := with()
		for i := 0; i < len(f); i += 2 {
			if f[i] == name {
				f[i+1] = value
			}
		}
		return f
	}
	for name, fields := range map[string][]string{
		"H2.CL: length without a body": with("content-length", "5"),
		"H2.CL: lengths that differ":   with("content-length", "0", "content-length", "5"),
		"H2.CL: sign":                  with("content-length", "+0"),
		"H2.CL: list":                  with("content-length", "0, 5"),
		"H2.CL: overflow":              with("content-length", "18446744073709551616"),
		"H2.TE":                        with("transfer-encoding", "chunked"),
		"H2.TE upper case":             with("Transfer-Encoding", "chunked"),
		"H2.TE with a space":           with("transfer-encoding ", "chunked"),
		"H2.TE in a name":              with("x: y\r\ntransfer-encoding", "chunked"),
		"H2.TE in a value":             with("x", "y\r\ntransfer-encoding: chunked"),
		"te":                           with("te", "chunked"),
		"connection":                   with("connection", "content-length"),
		"upgrade":                      with("upgrade", "h2c"),
		"request in a value":           with("x", "y\r\n\r\n"+smuggled),
		"LF in a value":                with("x", "y\ntransfer-encoding: chunked"),
		"CR in a value":                with("x", "y\rtransfer-encoding: chunked"),
		"NUL in a value":               with("x", "y\x00"),
		"space before a length":        with("content-length", " 0"),
		"colon in a name":              with("x:y", "z"),
		"space in a name":              with("x y", "z"),
		"no name":                      with("", "chunked"),
		":method with a request":       pseudo(":method", "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\nPOST"),
		":method with a space":         pseudo(":method", "GET /smuggled HTTP/1.1"),
		":path with a request":         pseudo(":path", "/ HTTP/1.1\r\nHost: x\r\n\r\nGET /smuggled"),
		":path with a field":           pseudo(":path", "/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\nX:"),
		":path with a space":           pseudo(":path", "/ HTTP/1.1"),
		":path not a path":             pseudo(":path", "smuggled"),
		":path empty":                  pseudo(":path", ""),
		":authority with a field":      pseudo(":authority", "a\r\nTransfer-Encoding: chunked"),
		":authority with a user":       pseudo(":authority", "u@a"),
		":authority with a path":       pseudo(":authority", "a/b"),
		":authority with a space":      pseudo(":authority", "a b"),
		":scheme with a request":       pseudo(":scheme", "http://x/ HTTP/1.1\r\n\r\n"),
		":scheme with a URL":           pseudo(":scheme", "http://a/?"),
		"host of another authority":    with("host", "b"),
		"host twice":                   with("host", "a", "host", "a"),
		":path twice":                  append([]string{":path", "/b"}, with()...),
		":authority twice":             append([]string{":authority", "a"}, with()...),
		":method behind a field":       {":scheme", "http", ":path", "/", ":authority", "a", "x", "y", ":method", "GET"},
		"no :path":                     {":method", "GET", ":scheme", "http", ":authority", "a"},
		":status":                      append([]string{":status", "200"}, with()...),
		"an unknown one":               append([]string{":host", "a"}, with()...),
		"CONNECT with a path":          pseudo(":method", "CONNECT"),
		":protocol of another method":  append([]string{":protocol", "websocket"}, with()...),
		":protocol with a field":       append([]string{":protocol", "x\r\ny: z"}, pseudo(":method", "CONNECT")...),
	} {
		t.Run(name, func(t *testing.T) {
			c := dialFrames(t, e.addr)
			whole := strings.HasPrefix(name, "H2.CL: length without")
			c.headers(1, whole, fields...)
			if !whole {
				c.data(1, true, "0\r\n\r\n"+smuggled)
			}
			c.want("HEADERS 1 :status=400 underlane-reason=bad-request", "RST_STREAM 1 PROTOCOL_ERROR")
		})
	}
	t.Run("gRPC", func(t *testing.T) { // is told in its own words
		c := dialFrames(t, e.addr)
		c.headers(1, false, with("content-type", "application/grpc", "te", "gzip")...)
		c.want("HEADERS 1 :status=200 content-type=application/grpc grpc-status=13 grpc-message=the request breaks the protocol underlane-reason=bad-request END",
			"RST_STREAM 1 PROTOCOL_ERROR")
	})
	b.none()
	e.tap.mu.Lock()
	defer e.tap.mu.Unlock()
	for i, end := range e.tap.ends {
		if end.Reason != mesh.ReasonBadRequest || !end.Reset || end.Status != 400 {
			t.Errorf("tap: end %d is %+v", i, end)
		}
	}
	if len(e.tap.ends) < 40 {
		t.Errorf("tap saw only %d requests", len(e.tap.ends))
	}
}

// TestH2BodyAgainstLength: a body that is not as long as it said (H2.CL) never
// reaches the endpoint as a whole.
func TestH2BodyAgainstLength(t *testing.T) {
	for name, body := range map[string]string{"longer": "hello" + smuggled, "shorter": "he"} {
		t.Run(name, func(t *testing.T) {
			b := newBackend(t)
			e := newH2Env(t, b.addr)
			c := dialFrames(t, e.addr)
			c.headers(1, false, ":method", "POST", ":scheme", "http", ":path", "/", ":authority", "a", "content-length", "5")
			s := serveFrames(b.accept())
			s.want("HEADERS 1 :method=POST :scheme=http :path=/ :authority=a content-length=5")
			c.data(1, true, body)
			c.want("RST_STREAM 1 PROTOCOL_ERROR")
			s.want("RST_STREAM 1 CANCEL")
			if end := e.tap.end(t, 0); end.Reason != mesh.ReasonBadRequest {
				t.Errorf("%+v", end)
			}
		})
	}
}
