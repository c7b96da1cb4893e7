package l7proxy

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/policy/authz"
)

// recorder is an application that keeps all bytes that it gets, and answers each head.
type recorder struct {
	mu  sync.Mutex
	got bytes.Buffer
}

func (a *recorder) serve(nc net.Conn) {
	buf := make([]byte, 4096)
	for {
		n, err := nc.Read(buf)
		a.mu.Lock()
		a.got.Write(buf[:n])
		a.mu.Unlock()
		for range bytes.Count(buf[:n], []byte("\r\n\r\n")) {
			if _, err := io.WriteString(nc, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (a *recorder) has(what string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return strings.Contains(a.got.String(), what)
}

// TestNothingSlipsPastRules: whatever a client sends, the application gets no byte of what a rule
// on requests refuses, by the path or for want of a Host.
func TestNothingSlipsPastRules(t *testing.T) {
	prefix := func(p string) []authz.Match { return []authz.Match{{Kind: authz.Prefix, Value: p}} }
	group := func(action authz.Action, to authz.Operation) *authz.Group {
		return &authz.Group{Name: "g", Default: authz.ModeAllUnauthenticated, Policies: []authz.Policy{{Name: "p", Action: action, Rules: []authz.Rule{{To: []authz.Operation{to}}}}}}
	}
	groups := map[string]*authz.Group{
		"deny":       group(authz.ActionDeny, authz.Operation{Paths: prefix("/admin")}),
		"allow":      group(authz.ActionAllow, authz.Operation{Paths: prefix("/public/")}),
		"deny hosts": group(authz.ActionDeny, authz.Operation{Hosts: []authz.Match{{Value: "admin.example"}}}),
	}
	const rest = " HTTP/1.1\r\nHost: a\r\nX-Secret: admin\r\n\r\n"
	get := func(target string) []string { return []string{"GET " + target + rest} }
	slowly := func(s string) (out []string) {
		for i := range s {
			out = append(out, s[i:i+1])
		}
		return out
	}
	paths := map[string][]string{
		"plain":                  get("/admin"),
		"slashes":                get("//admin"),
		"dots":                   get("/public/../admin"),
		"encoded dots":           get("/public/%2e%2e/admin"),
		"encoded slash":          get("/public%2f..%2fadmin"),
		"encoded letters":        get("/%61dmin"),
		"backslash":              get(`/public/..\admin`),
		"parameters":             get("/public/..;/admin"),
		"absolute":               get("http://a/admin"),
		"absolute, of another":   get("http://admin.example/admin"),
		"absolute, upper case":   get("HTTP://A:80/admin"),
		"HTTP/1.0 without Host":  {"GET /admin HTTP/1.0\r\nX-Secret: admin\r\n\r\n"},
		"HTTP/0.9":               {"GET /admin\r\n"},
		"HTTP/2.0 in a line":     {"GET /admin HTTP/2.0\r\nHost: a\r\nX-Secret: admin\r\n\r\n"},
		"an empty line first":    {"\r\nGET /admin" + rest},
		"empty lines first":      {"\r\n\r\n\r\nGET /admin" + rest},
		"a space first":          {" GET /admin" + rest},
		"LF":                     {"GET /admin HTTP/1.1\nHost: a\nX-Secret: admin\n\n"},
		"two spaces":             {"GET  /admin" + rest},
		"a tab":                  {"GET\t/admin" + rest},
		"no version":             {"GET /admin \r\nHost: a\r\n\r\n"},
		"an unknown method":      {"FOO /admin" + rest},
		"a lower-case method":    {"get /admin" + rest},
		"slow bytes":             slowly("GET /admin" + rest),
		"pipelined":              {"GET /public/a HTTP/1.1\r\nHost: a\r\n\r\nGET /admin" + rest},
		"behind a body":          {"POST /public/a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /admin" + rest},
		"behind a chunked body":  {"POST /public/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /admin" + rest},
		"two lengths":            {"POST /public/a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 0\r\n\r\nGET /admin" + rest},
		"length and chunked":     {"POST /public/a HTTP/1.1\r\nHost: a\r\nContent-Length: 300\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /admin" + rest},
		"upgrade to h2c":         {"GET /admin HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nX-Secret: admin\r\n\r\n"},
		"upgrade to a WebSocket": {"GET /admin HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Secret: admin\r\n\r\n"},
		"PROXY 1":                {"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\nGET /admin" + rest},
		"PROXY 2":                {"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00GET /admin" + rest},
		"TLS":                    {string(clientHello(t, "admin.example")) + "admin"},
		"TLS in pieces":          {string(clientHello(t, "admin.example")[:20]), "admin"},
		"HTTP/2 in pieces":       {"PRI * HTTP/2.0\r\n", "\r\nadmin"},
		"opaque":                 {"\x00admin"},
		"the server is to speak": {"\r\n", "admin"},
	}
	hosts := map[string][]string{
		"plain":                 {"GET / HTTP/1.1\r\nHost: admin.example\r\nX-Secret: admin\r\n\r\n"},
		"upper case, with port": {"GET / HTTP/1.1\r\nHost: ADMIN.example:80\r\n\r\n"},
		"a trailing dot":        {"GET / HTTP/1.1\r\nHost: admin.example.\r\n\r\n"},
		"absolute":              {"GET http://admin.example/ HTTP/1.1\r\nHost: a\r\n\r\n"},
		"HTTP/1.0 without Host": {"GET / HTTP/1.0\r\nX-Secret: admin\r\n\r\n"},
		"an empty Host":         {"GET / HTTP/1.1\r\nHost:\r\nX-Secret: admin\r\n\r\n"},
		"two of Host":           {"GET / HTTP/1.1\r\nHost: a\r\nHost: admin.example\r\n\r\n"},
		"CONNECT":               {"CONNECT admin.example:80 HTTP/1.1\r\nHost: a\r\nX-Secret: admin\r\n\r\n"},
		"in the user":           {"GET http://a@admin.example/ HTTP/1.1\r\nHost: a\r\n\r\n"},
	}
	for name, group := range groups {
		app := &recorder{}
		g := guard(t, serveConns(t, app.serve))
		g.rule(group)
		attacks := paths
		if name == "deny hosts" {
			attacks = hosts
		}
		var all sync.WaitGroup
		for attack, pieces := range attacks {
			all.Go(func() {
				c, err := net.Dial("tcp", g.addr.String())
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(time.Minute))
				for _, p := range pieces {
					if _, err := io.WriteString(c, p); err != nil {
						break // it is refused already
					}
					if len(pieces) > 1 {
						time.Sleep(tellTime / 10)
					}
				}
				_ = c.(*net.TCPConn).CloseWrite()
				_, err = io.Copy(io.Discard, c)
				if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
					t.Errorf("%s, %s: the connection stays open", name, attack)
				}
			})
		}
		all.Wait()
		if allowed := "GET /public/a HTTP/1.1"; name != "deny hosts" && !app.has(allowed) {
			t.Errorf("%s: the application did not get %q, which is allowed", name, allowed)
		}
		if app.has("admin") {
			t.Errorf("%s: the application got %q", name, fmt.Sprint(app.got.String()))
		}
	}
}
