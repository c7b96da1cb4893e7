package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/underlane/underlane/test/lab"
)

// Ports of the two applications that write down what arrives.
const (
	rawPort = 8081 // the bytes of HTTP/1, whatever they are
	h2Port  = 8082 // requests that Go's server has understood
)

// attacked is a set of rules by which only requests to the host ok.example below /public are let in, or
// those with a token.
type attacked struct {
	rules string
	to    string // the host part of the address
	token string // a field of what is let in
}

const attackedService = `---
apiVersion: v1
kind: Service
metadata: {name: asked, namespace: default}
spec: {selector: {app: server}, ports: [{name: raw, port: 8081}, {name: h2, port: 8082}]}
---
apiVersion: v1
kind: Service
metadata: {name: authorizer, namespace: default}
spec: {selector: {app: authorizer}, ports: [{port: 80, targetPort: 8080}]}
`

// attackedPorts has a manifest for each port.
func attackedPorts(format string) (out string) {
	for _, port := range []int{rawPort, h2Port} {
		out += strings.ReplaceAll(format, "PORT", fmt.Sprint(port))
	}
	return out
}

var attackedRules = map[string]attacked{
	"egress": {to: "203.0.113.7", rules: fmt.Sprintf(egressNetwork, "default", "Deny") + attackedPorts(`---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: attacked-PORT, namespace: default}
spec:
  hostnames: [ok.example]
  parentRefs: [{group: policy.linkerd.io, kind: EgressNetwork, name: all, port: PORT}]
  rules: [{matches: [{path: {value: /public}}]}]
`)},
	"external": {to: "asked.default", token: "good", rules: attackedPorts(`---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: attacked-PORT, namespace: default}
spec:
  parentRefs: [{group: "", kind: Service, name: asked, port: PORT}]
  rules:
    - filters: [{type: ExternalAuth, externalAuth: {protocol: GRPC, grpc: {}, backendRef: {name: authorizer, port: 80}}}]
      backendRefs: [{name: asked, port: PORT}]
`)},
}

// attacksHTTP1 are bytes that a client sends, in pieces. Each has "admin" or "secret" in what must not arrive.
func attacksHTTP1() map[string][]string {
	const rest = " HTTP/1.1\r\nHost: ok.example\r\nX-Secret: 1\r\n\r\n"
	get := func(target string) []string { return []string{"GET " + target + rest} }
	host := func(host string) []string {
		return []string{"GET /public/../admin HTTP/1.1\r\nHost: " + host + "\r\nX-Secret: 1\r\n\r\n"}
	}
	var slowly []string
	for _, b := range []byte("GET /admin" + rest) {
		slowly = append(slowly, string(b))
	}
	return map[string][]string{
		"plain": get("/admin"), "two slashes": get("//admin"), "dots": get("/public/../admin"), "encoded dots": get("/public/%2e%2e/admin"),
		"encoded slash": get("/public%2f..%2fadmin"), "encoded slash first": get("/%2fadmin"), "encoded letters": get("/%61dmin"), "twice encoded dots": get("/public/%252e%252e/../../admin"),
		"backslash": get(`/public/..\admin`), "parameters": get("/public/..;/admin"), "parameters with a value": get("/public/..;x=1/admin"), "a parameter": get("/admin;x"),
		"absolute": get("http://ok.example/admin"), "absolute, another host": get("http://admin.example/admin"), "absolute, upper case": get("HTTP://OK.EXAMPLE:80/admin"),
		"absolute, a user": get("http://ok.example@admin.example/admin"), "a fragment": get("/admin#/public/"), "a query": get("/admin?/public/"), "no slash": get("admin"), "a star": get("*admin"),
		"upper-case host": host("ADMIN.EXAMPLE"), "a dot after the host": host("admin.example."), "a port": host("admin.example:80"), "a space after the host": host("admin.example "), "no host": host(""),
		"two hosts":               {"GET /admin HTTP/1.1\r\nHost: ok.example\r\nHost: admin.example\r\n\r\n"},
		"two hosts, reverse":      {"GET /admin HTTP/1.1\r\nHost: admin.example\r\nHost: ok.example\r\n\r\n"},
		"a host with a space":     {"GET /admin HTTP/1.1\r\nHost : ok.example\r\nX-Secret: 1\r\n\r\n"},
		"a folded host":           {"GET /admin HTTP/1.1\r\nX-A: b\r\n Host: ok.example\r\nX-Secret: 1\r\n\r\n"},
		"HTTP/1.0":                {"GET /admin HTTP/1.0\r\nX-Secret: 1\r\n\r\n"},
		"HTTP/0.9":                {"GET /admin\r\n"},
		"HTTP/2.0":                {"GET /admin HTTP/2.0\r\nHost: ok.example\r\nX-Secret: 1\r\n\r\n"},
		"HTTP/1.2":                {"GET /admin HTTP/1.2\r\nHost: ok.example\r\nX-Secret: 1\r\n\r\n"},
		"an empty line first":     {"\r\nGET /admin" + rest},
		"a space first":           {" GET /admin" + rest},
		"LF alone":                {"GET /admin HTTP/1.1\nHost: ok.example\nX-Secret: 1\n\n"},
		"two spaces":              {"GET  /admin" + rest},
		"a tab":                   {"GET\t/admin" + rest},
		"a method in lower case":  {"get /admin" + rest},
		"an unknown method":       {"FOO /admin" + rest},
		"CONNECT":                 {"CONNECT admin.example:80 HTTP/1.1\r\nHost: ok.example\r\nX-Secret: 1\r\n\r\n"},
		"OPTIONS of another host": {"OPTIONS * HTTP/1.1\r\nHost: admin.example\r\nX-Secret: 1\r\n\r\n"},
		"byte by byte":            slowly,
		"pipelined":               {"GET /public/a HTTP/1.1\r\nHost: ok.example\r\n\r\nGET /admin" + rest},
		"behind a body":           {"POST /public/a HTTP/1.1\r\nHost: ok.example\r\nContent-Length: 3\r\n\r\nabcGET /admin" + rest},
		"behind chunks":           {"POST /public/a HTTP/1.1\r\nHost: ok.example\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /admin" + rest},
		"two lengths":             {"POST /public/a HTTP/1.1\r\nHost: ok.example\r\nContent-Length: 3\r\nContent-Length: 0\r\n\r\nGET /admin" + rest},
		"length and chunks":       {"POST /public/a HTTP/1.1\r\nHost: ok.example\r\nContent-Length: 300\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /admin" + rest},
		"odd chunks":              {"POST /public/a HTTP/1.1\r\nHost: ok.example\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\nGET /admin" + rest},
		"upgrade to h2c":          {"GET /admin HTTP/1.1\r\nHost: ok.example\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nX-Secret: 1\r\n\r\n"},
		"WebSocket":               {"GET /admin HTTP/1.1\r\nHost: ok.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Secret: 1\r\n\r\n"},
		"gRPC-web":                {"POST /admin HTTP/1.1\r\nHost: ok.example\r\nContent-Type: application/grpc-web\r\nContent-Length: 0\r\nX-Secret: 1\r\n\r\n"},
		"PROXY 1":                 {"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\nGET /admin" + rest},
		"PROXY 2":                 {"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00GET /admin" + rest},
		"HTTP/2 that is none":     {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nGET /admin" + rest},
		"half of HTTP/2":          {"PRI * HTTP/2.0\r\n", "\r\nadmin"},
		"opaque":                  {"\x00\x01admin secret\n"},
		"a line":                  {"\r\n", "admin"},
		"TLS that is none":        {"\x16\x03\x01\x00\x05admin"},
	}
}

// attacksHTTP2 are the fields of a request.
func attacksHTTP2() map[string][][2]string {
	path := func(path string) [][2]string {
		return [][2]string{{":method", "GET"}, {":scheme", "http"}, {":authority", "ok.example"}, {":path", path}, {"x-secret", "1"}}
	}
	host := func(fields ...[2]string) [][2]string {
		return append([][2]string{{":method", "GET"}, {":scheme", "http"}, {":path", "/admin"}, {"x-secret", "1"}}, fields...)
	}
	return map[string][][2]string{
		"plain": path("/admin"), "two slashes": path("//admin"), "dots": path("/public/../admin"), "encoded dots": path("/public/%2e%2e/admin"), "encoded slash": path("/public%2f..%2fadmin"),
		"encoded letters": path("/%61dmin"), "backslash": path(`/public/..\admin`), "parameters": path("/public/..;/admin"), "a parameter": path("/admin;x"), "no slash": path("admin"), "a star": path("*"),
		"absolute": path("http://ok.example/admin"), "a fragment": path("/admin#/public/"), "a query": path("/admin?/public/"), "empty": path(""), "a space": path("/admin /public/"), "a line": path("/admin\r\nx: y"),
		"upper-case host": host([2]string{":authority", "ADMIN.EXAMPLE"}), "a dot after the host": host([2]string{":authority", "admin.example."}), "a port": host([2]string{":authority", "admin.example:80"}),
		"no host": host(), "an empty host": host([2]string{":authority", ""}), "a user": host([2]string{":authority", "ok.example@admin.example"}),
		"two hosts":      host([2]string{":authority", "ok.example"}, [2]string{"host", "admin.example"}),
		"host alone":     host([2]string{"host", "admin.example"}),
		"CONNECT":        {{":method", "CONNECT"}, {":authority", "admin.example:80"}, {"x-secret", "1"}},
		"WebSocket":      {{":method", "CONNECT"}, {":protocol", "websocket"}, {":scheme", "http"}, {":authority", "ok.example"}, {":path", "/admin"}, {"x-secret", "1"}},
		"lower-case":     {{":method", "get"}, {":scheme", "http"}, {":authority", "ok.example"}, {":path", "/admin"}, {"x-secret", "1"}},
		"another scheme": {{":method", "GET"}, {":scheme", "ftp"}, {":authority", "ok.example"}, {":path", "/admin"}, {"x-secret", "1"}},
		"gRPC":           {{":method", "POST"}, {":scheme", "http"}, {":authority", "ok.example"}, {":path", "/admin"}, {"content-type", "application/grpc"}, {"te", "trailers"}, {"x-secret", "1"}},
		"gRPC-web":       {{":method", "POST"}, {":scheme", "http"}, {":authority", "ok.example"}, {":path", "/admin"}, {"content-type", "application/grpc-web"}, {"x-secret", "1"}},
		"two paths":      append(path("/public/a"), [2]string{":path", "/admin"}),
		"a late path":    {{":method", "GET"}, {":scheme", "http"}, {":authority", "ok.example"}, {"x-secret", "1"}, {":path", "/admin"}},
		"an upper field": append(path("/admin"), [2]string{"X-Upper", "1"}),
	}
}

// arrivals are what an application got.
type arrivals struct {
	mu  sync.Mutex
	got bytes.Buffer
}

func (a *arrivals) add(b []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.got.Write(b)
}

func (a *arrivals) take() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := a.got.String()
	a.got.Reset()
	return out
}

// slipped reports whether something is there that must not have arrived.
func slipped(text string) bool {
	text = strings.ToLower(text)
	return strings.Contains(text, "admin") || strings.Contains(text, "secret")
}

// serveRaw writes down all bytes, and answers each head.
func (a *arrivals) serveRaw(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			buf := make([]byte, 4096)
			for {
				n, err := c.Read(buf)
				a.add(buf[:n])
				for range bytes.Count(buf[:n], []byte("\r\n\r\n")) {
					if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"); err != nil {
						return
					}
				}
				if err != nil {
					return
				}
			}
		}()
	}
}

// serveH2 writes down the requests.
func (a *arrivals) serveH2(l net.Listener) {
	s := &http.Server{
		Protocols: new(http.Protocols),
		Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			a.add(fmt.Appendf(nil, "%s %s %s %v\n", r.Method, r.Host, r.RequestURI, r.Header))
		}),
	}
	s.Protocols.SetUnencryptedHTTP2(true)
	go func() { _ = s.Serve(l) }()
}

// attack makes one, and waits until all is said.
func (d *podDialer) attack(addr string, pieces []string) (answer string, err error) {
	c, err := d.DialContext(context.Background(), "tcp", addr)
	if err != nil {
		return "", nil // refused
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	for i, p := range pieces {
		if _, err := io.WriteString(c, p); err != nil {
			break // it is refused already
		}
		if i+1 < len(pieces) {
			time.Sleep(5 * time.Millisecond)
		}
	}
	_ = c.(*podConn).CloseWrite()
	got, err := io.ReadAll(c)
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		err = nil
	}
	return string(got), err
}

func (d *podDialer) attackH2(addr string, fields [][2]string) error {
	c, err := d.DialContext(context.Background(), "tcp", addr)
	if err != nil {
		return nil
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	var head bytes.Buffer
	e := hpack.NewEncoder(&head)
	for _, f := range fields {
		_ = e.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	var out bytes.Buffer
	out.WriteString(http2.ClientPreface)
	w := http2.NewFramer(&out, c)
	w.AllowIllegalWrites = true
	_ = w.WriteSettings()
	_ = w.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head.Bytes(), EndHeaders: true, EndStream: true})
	if _, err := c.Write(out.Bytes()); err != nil {
		return nil
	}
	for {
		f, err := w.ReadFrame()
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			return err
		}
		if err != nil {
			return nil
		}
		switch f := f.(type) {
		case *http2.GoAwayFrame, *http2.RSTStreamFrame:
			return nil
		case *http2.HeadersFrame:
			if f.StreamEnded() {
				return nil
			}
		case *http2.DataFrame:
			if f.StreamEnded() {
				return nil
			}
		}
	}
}

// TestAttacks: whatever a client sends, in HTTP/1, HTTP/2 or as bytes, nothing arrives of what an
// EgressNetwork refuses, or of what an external authorizer has to allow for a Service, at an
// application of the client's node and of another. TestNothingSlipsPastRules of pkg/l7proxy attacks policies.
func TestAttacks(t *testing.T) {
	t.Parallel()
	authorizer := clientPod("authorizer", node2)
	authorizer.Command = []string{"labtest", "authorizer"}
	l := lab.Up(t, lab.Options{}, manifests(clientPod("far", node1), clientPod("near", node2), serverPod("server", node2), authorizer)+attackedService)
	waitEnrolled(t, l, "default/far", "default/near", "default/server", "default/authorizer")
	outsideServer(t, l)
	raw, h2 := &arrivals{}, &arrivals{}
	go raw.serveRaw(listenIn(t, l, "server", rawPort))
	h2.serveH2(listenIn(t, l, "server", h2Port))
	for port, serve := range map[int]func(net.Listener){rawPort: raw.serveRaw, h2Port: h2.serveH2} {
		out, err := inNetns(t, nodeNetns(t, l, node2), func() (net.Listener, error) {
			return net.Listen("tcp", fmt.Sprintf("203.0.113.7:%d", port))
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { out.Close() })
		go serve(out)
	}
	clients := map[string]*podDialer{"far": dialFrom(t, l, "far"), "near": dialFrom(t, l, "near")}
	http1, http2s := attacksHTTP1(), attacksHTTP2()
	for name, rules := range attackedRules {
		t.Run(name, func(t *testing.T) {
			at := func(port int) string {
				if rules.to != "" {
					return fmt.Sprintf("%s:%d", rules.to, port)
				}
				return addrPort(l.Pod("server").IP(), port)
			}
			refused := func(want bool) {
				t.Helper()
				l.Eventually(patience, func() error {
					for client, from := range clients {
						raw.take()
						if _, err := from.attack(at(rawPort), http1["plain"]); err != nil {
							return err
						}
						h2.take()
						if err := from.attackH2(at(h2Port), http2s["plain"]); err != nil {
							return err
						}
						if got, gotH2 := !slipped(raw.take()), !slipped(h2.take()); got != want || gotH2 != want {
							return fmt.Errorf("%s: a request of %s is refused: %v, %v, want %v", name, client, got, gotH2, want)
						}
					}
					return nil
				})
			}
			refused(false)
			l.Apply(rules.rules)
			refused(true)
			for client, from := range clients {
				var all sync.WaitGroup
				turns := make(chan struct{}, 8)
				do := func(attack string, f func() error) {
					all.Go(func() {
						turns <- struct{}{}
						defer func() { <-turns }()
						if err := f(); err != nil {
							t.Errorf("%s, %s, %s: %v", name, client, attack, err)
						}
					})
				}
				for attack, pieces := range http1 {
					do(attack, func() error { _, err := from.attack(at(rawPort), pieces); return err })
				}
				for attack, fields := range http2s {
					do("HTTP/2, "+attack, func() error { return from.attackH2(at(h2Port), fields) })
				}
				all.Wait()
				if got := raw.take(); slipped(got) {
					t.Errorf("%s, %s: the application got %q", name, client, got)
				}
				if got := h2.take(); slipped(got) {
					t.Errorf("%s, %s: the application of HTTP/2 got %q", name, client, got)
				}
				// What is allowed arrives.
				field := ""
				if rules.token != "" {
					field = "X-Token: " + rules.token + "\r\n"
				}
				if answer, err := from.attack(at(rawPort), []string{"GET /public/a HTTP/1.1\r\nHost: ok.example\r\nConnection: close\r\n" + field + "\r\n"}); err != nil || !strings.Contains(raw.take(), "GET /public/a ") {
					t.Errorf("%s, %s: what is allowed: %q, %v", name, client, answer, err)
				}
				head := [][2]string{{":method", "GET"}, {":scheme", "http"}, {":authority", "ok.example"}, {":path", "/public/a"}}
				if rules.token != "" {
					head = append(head, [2]string{"x-token", rules.token})
				}
				if err := from.attackH2(at(h2Port), head); err != nil || !strings.Contains(h2.take(), "GET ok.example /public/a ") {
					t.Errorf("%s, %s, HTTP/2: what is allowed does not arrive: %v", name, client, err)
				}
			}
			l.Delete(rules.rules)
		})
	}
}
