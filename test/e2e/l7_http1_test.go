package e2e

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestHTTP1 plays both sides by hand: what goes in comes out, byte for byte.
func TestHTTP1(t *testing.T) {
	t.Parallel()
	l := upL7(t)
	near, far := listenIn(t, l.Lab, "near", 9000), listenIn(t, l.Lab, "far", 9000)
	tap := startTap(t, l.Lab, node1)
	before := metrics(t, l.Lab, node1)
	for _, w := range l.ways {
		t.Run(w.name, func(t *testing.T) {
			at := far
			if w.server == "near" {
				at = near
			}
			host := w.addr(9000)
			c := l.from.raw(t, host)
			if c.RemoteAddr().String() != host {
				t.Errorf("the client believes that it is connected to %s, and asked for %s", c.RemoteAddr(), host)
			}
			c.send("GET /first HTTP/1.1\r\nhOST: " + host + "\r\nX-b: 1\r\nx-A: 2\r\nX-B: 3\r\n\r\n")
			srv := at.request(t)
			if got := srv.RemoteAddr().String(); !strings.HasPrefix(got, bracket(w.clientIP.String())+":") {
				t.Errorf("the server sees %s, the client is %s", got, w.clientIP)
			}
			srv.expect("GET /first HTTP/1.1\r\nhOST: " + host + "\r\nX-b: 1\r\nx-A: 2\r\nX-B: 3\r\n\r\n")
			srv.send("HTTP/1.1 200 Fine By Me\r\nx-Z: 1\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\nContent-Length: 2\r\n\r\nok")
			c.expect("HTTP/1.1 200 Fine By Me\r\nx-Z: 1\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\nContent-Length: 2\r\n\r\nok")

			t.Run("pipelining", func(t *testing.T) {
				c.send("GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\nHEAD /c HTTP/1.1\r\nHost: x\r\n\r\n")
				for _, p := range []string{"GET /a", "GET /b", "HEAD /c"} {
					srv.expect(p + " HTTP/1.1\r\nHost: x\r\n\r\n")
					srv.send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n")
					if p[0] == 'G' {
						srv.send(p[5:])
					}
				}
				for _, body := range []string{"a", "b", ""} {
					c.expect("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n" + body)
				}
			})
			t.Run("chunks, 100-continue and trailers", func(t *testing.T) {
				head := "POST /chunks HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
				c.send(head)
				srv.expect(head)
				srv.send("HTTP/1.1 100 Continue\r\n\r\n")
				c.expect("HTTP/1.1 100 Continue\r\n\r\n")
				body := "5;ext=1\r\nhello\r\n0\r\nX-Sum: abc\r\n\r\n"
				c.send(body)
				srv.expect(body)
				srv.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n")
				c.expect("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n")
			})
			t.Run("upgrade", func(t *testing.T) {
				ask := "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
				c.send(ask)
				srv.expect(ask)
				srv.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nhello")
				c.expect("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nhello")
				c.send("ping")
				srv.expect("ping")
				_ = c.CloseWrite()
				if got := srv.rest(); got != "" {
					t.Errorf("the server got %q", got)
				}
				srv.send("bye")
				srv.Close()
				if got := c.rest(); got != "bye" {
					t.Errorf("the client got %q", got)
				}
			})
			e := outboundEnd(tap, "/first")
			if e.TLS != w.tls || e.ResponseEndEvent.HTTPStatus != 200 || e.ResponseEndEvent.ResponseBytes != 2 ||
				e.Source.Metadata["pod"] != "client" || e.Destination.Metadata["pod"] != w.server {
				t.Errorf("tap: %s", e)
			}
			e = outboundEnd(tap, "/chunks")
			if e.ResponseEndEvent.RequestBytes != 5 || e.ResponseEndEvent.ResponseBytes != 3 {
				t.Errorf("tap: %s", e)
			}
			tap.forget()
		})
	}
	for name, labels := range map[string][]string{
		"request_total":             {"direction=outbound", "tls=true", "dst_pod=far"},
		"response_total":            {"direction=outbound", "classification=success", "dst_pod=far"},
		"response_latency_ms_count": {"direction=outbound", "dst_pod=far"},
	} {
		// first, a, b, c, chunks, ws over two address families. The client sees the
		// end before it is counted.
		l.Eventually(patience, func() error {
			if got := metric(metrics(t, l.Lab, node1), name, labels...) - metric(before, name, labels...); got != 12 {
				return fmt.Errorf("%s%v grew by %v, want 12", name, labels, got)
			}
			return nil
		})
	}
}

func bracket(ip string) string {
	if strings.Contains(ip, ":") {
		return "[" + ip + "]"
	}
	return ip
}

// TestHTTPBodies sends bodies of many sizes both ways, by net/http at both
// ends, over HTTP/1.1 and HTTP/2.
func TestHTTPBodies(t *testing.T) {
	t.Parallel()
	l := upL7(t)
	for _, http2 := range []bool{false, true} {
		client := l.client(t, http2)
		for _, w := range l.ways {
			t.Run(fmt.Sprintf("%s HTTP/2 %v", w.name, http2), func(t *testing.T) {
				for _, size := range []int64{0, 1, 1 << 10, 40_000, 1 << 20} {
					for _, chunked := range []bool{false, true} {
						a := post(t, client, "http://"+w.addr(8080)+"/echo", size, chunked)
						if a.BodyBytes != size || a.BodySHA256 != patternHash(size) {
							t.Errorf("%d bytes (chunked %v): the server got %d", size, chunked, a.BodyBytes)
						}
						if !strings.HasPrefix(a.RemoteAddr, bracket(w.clientIP.String())+":") {
							t.Errorf("the server sees %s", a.RemoteAddr)
						}
						if a.Host != w.addr(8080) {
							t.Errorf("host %s", a.Host)
						}
					}
					resp, err := client.Get(fmt.Sprintf("http://%s/bytes/%d", w.addr(8080), size))
					if err != nil {
						t.Fatal(err)
					}
					n, hash, err := hashOf(resp.Body)
					resp.Body.Close()
					if err != nil || n != size || hash != patternHash(size) {
						t.Errorf("download of %d: %d, %v", size, n, err)
					}
				}
			})
		}
	}
}

// answer is what labtest's HTTP server says of a request.
type answer struct {
	Hostname, RemoteAddr, LocalAddr, Proto, Method, Host, Path string
	BodyBytes                                                  int64
	BodySHA256                                                 string
	Connection                                                 uint64
}

func post(t *testing.T, client *http.Client, url string, size int64, chunked bool) answer {
	t.Helper()
	req, err := http.NewRequest("POST", url, io.LimitReader(&pattern{}, size))
	if err != nil {
		t.Fatal(err)
	}
	if !chunked {
		req.ContentLength = size
		if size == 0 {
			req.Body = http.NoBody
		}
	}
	return do(t, client, req)
}
