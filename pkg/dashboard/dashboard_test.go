package dashboard

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func handler(t *testing.T, c Config) http.Handler {
	t.Helper()
	h, err := Handler(c)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// ask makes a request as a browser with the page open would, changed by change.
func ask(h http.Handler, target string, change func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, "http://127.0.0.1:8084"+target, nil)
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

var echo = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.URL.String()) })

func TestPaths(t *testing.T) {
	h := handler(t, Config{API: echo})
	for _, test := range []struct {
		path string
		code int
		kind string
		has  string
	}{
		{"/", 200, "text/html; charset=utf-8", `src="/assets/app.js"`},
		{"/topology?ns=shop", 200, "text/html; charset=utf-8", `src="/assets/app.js"`},
		{"/ns/shop/deployment/web-1.2", 200, "text/html; charset=utf-8", `src="/assets/app.js"`},
		{"/assets/app.js", 200, "text/javascript; charset=utf-8", "const"},
		{"/assets/layout.worker.js", 200, "text/javascript; charset=utf-8", "onmessage"},
		{"/assets/style.css", 200, "text/css; charset=utf-8", "--accent"},
		{"/assets/licences.txt", 200, "text/plain; charset=utf-8", "MIT"},
		{"/icon.svg", 200, "image/svg+xml", "<svg"},
		{"/assets/nothing.js", 404, "application/json", `"kind":"Status"`},
		{"/assets/../dashboard.go", 307, "", ""},
		{"/.well-known/x", 404, "application/json", `"kind":"Status"`},
		{"/api/v1alpha1/figures?by=pod", 200, "", "/figures?by=pod"},
		{"/api/v1alpha1/ns/a%2Fb", 200, "", "/ns/a%2Fb"},
		{"/api/v2/figures", 404, "application/json", `"kind":"Status"`},
		{"/about.json", 200, "application/json", `"scope"`},
	} {
		got := ask(h, test.path, nil)
		if kind := got.Header().Get("Content-Type"); got.Code != test.code || test.kind != "" && kind != test.kind || !strings.Contains(got.Body.String(), test.has) {
			t.Errorf("%s: %d %q %.80q, want %d %q with %q", test.path, got.Code, kind, got.Body, test.code, test.kind, test.has)
		}
	}
}

func TestWithoutAPI(t *testing.T) {
	got := ask(handler(t, Config{}), "/api/v1alpha1/figures", nil)
	if got.Code != http.StatusNotFound || !strings.Contains(got.Body.String(), "has no API") {
		t.Errorf("%d %s, want 404 that says why", got.Code, got.Body)
	}
}

func TestAbout(t *testing.T) {
	want := About{Where: `</script><b>`, Command: "agent", Scope: "node", Generated: true, Version: "v1"}
	got := ask(handler(t, Config{About: want}), "/about.json", nil)
	var have About
	if err := json.Unmarshal(got.Body.Bytes(), &have); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Error(diff)
	}
}

func TestHeaders(t *testing.T) {
	h := handler(t, Config{API: echo})
	for _, path := range []string{"/", "/assets/app.js", "/api/v1alpha1/figures", "/assets/nothing"} {
		got := ask(h, path, nil).Header()
		for name, has := range map[string]string{
			"Content-Security-Policy":      "default-src 'none'",
			"X-Content-Type-Options":       "nosniff",
			"Referrer-Policy":              "no-referrer",
			"Cross-Origin-Resource-Policy": "same-origin",
		} {
			if !strings.Contains(got.Get(name), has) {
				t.Errorf("%s: %s %q, want %q", path, name, got.Get(name), has)
			}
		}
		if unsafe := regexp.MustCompile(`unsafe|\*|https?:`).FindString(got.Get("Content-Security-Policy")); unsafe != "" {
			t.Errorf("%s: the policy has %q, want nothing but this server's files", path, unsafe)
		}
		if origin := got.Get("Access-Control-Allow-Origin"); origin != "" {
			t.Errorf("%s lets %q read it, want no other origin", path, origin)
		}
	}
	if got := ask(h, "/api/v1alpha1/figures", nil).Header().Get("Cache-Control"); got != "no-store" {
		t.Errorf("an answer of the API has Cache-Control %q, want no-store", got)
	}
}

// TestGuard has what a browser sends of its own for a page of another site, and what
// it sends for this one.
func TestGuard(t *testing.T) {
	set := func(pairs ...string) func(*http.Request) {
		return func(r *http.Request) {
			for i := 0; i < len(pairs); i += 2 {
				r.Header.Set(pairs[i], pairs[i+1])
			}
		}
	}
	host := func(name string) func(*http.Request) { return func(r *http.Request) { r.Host = name } }
	method := func(name string) func(*http.Request) { return func(r *http.Request) { r.Method = name } }
	h := handler(t, Config{API: echo})
	const api = "/api/v1alpha1/figures"
	for _, test := range []struct {
		name   string
		path   string
		change func(*http.Request)
		want   int
	}{
		{"localhost", api, host("localhost:8084"), 200},
		{"LOCALHOST", api, host("LOCALHOST"), 200},
		{"a forwarded port", api, host("127.0.0.1:31999"), 200},
		{"127.1.2.3", api, host("127.1.2.3:80"), 200},
		{"IPv6", api, host("[::1]:8084"), 200},
		{"IPv6 without a port", api, host("[::1]"), 200},
		{"mapped", api, host("[::ffff:127.0.0.1]:8084"), 200},
		{"rebound name", api, host("evil.example:8084"), 421},
		{"rebound name, page", "/", host("evil.example:8084"), 421},
		{"name that begins with an address", api, host("127.0.0.1.evil.example"), 421},
		{"name that ends with localhost", api, host("evil.localhost"), 421},
		{"any address", api, host("0.0.0.0:8084"), 421},
		{"address of the network", api, host("192.0.2.1:8084"), 421},
		{"no host", api, host(""), 421},
		{"a zone", api, host("[::1%25eth0]:8084"), 421},
		{"same origin", api, set("Sec-Fetch-Site", "same-origin"), 200},
		{"typed address", "/", set("Sec-Fetch-Site", "none"), 200},
		{"link from elsewhere", "/topology", set("Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"), 200},
		{"frame elsewhere", "/topology", set("Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "iframe"), 403},
		{"link from elsewhere to the API", api, set("Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"), 403},
		{"image elsewhere", api, set("Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Dest", "image"), 403},
		{"another port of this machine", api, set("Sec-Fetch-Site", "same-site", "Sec-Fetch-Mode", "cors"), 403},
		{"old browser, other origin", api, set("Origin", "http://evil.example"), 403},
		{"old browser, this origin", api, set("Origin", "http://127.0.0.1:8084"), 200},
		{"null origin", api, set("Origin", "null"), 403},
		{"POST", api, method(http.MethodPost), 405},
		{"OPTIONS", api, method(http.MethodOptions), 405},
		{"HEAD", "/", method(http.MethodHead), 200},
	} {
		if got := ask(h, test.path, test.change); got.Code != test.want {
			t.Errorf("%s: %d %s, want %d", test.name, got.Code, got.Body, test.want)
		}
	}
}

func TestCompressedAndTagged(t *testing.T) {
	h := handler(t, Config{})
	plain := ask(h, "/assets/app.js", nil)
	packed := ask(h, "/assets/app.js", func(r *http.Request) { r.Header.Set("Accept-Encoding", "br, gzip;q=0.8") })
	if got := packed.Header().Get("Content-Encoding"); got != "gzip" {
		t.Fatalf("Content-Encoding %q, want gzip", got)
	}
	z, err := gzip.NewReader(packed.Body)
	if err != nil {
		t.Fatal(err)
	}
	if data, err := io.ReadAll(z); err != nil || !bytes.Equal(data, plain.Body.Bytes()) {
		t.Errorf("%d bytes unpacked, %v, want the %d that are plain", len(data), err, plain.Body.Len())
	}
	if got := ask(h, "/assets/app.js", func(r *http.Request) { r.Header.Set("Accept-Encoding", "gzip;q=0") }); got.Header().Get("Content-Encoding") != "" {
		t.Error("it is compressed for a client that forbids it")
	}
	tag := plain.Header().Get("ETag")
	if got := ask(h, "/assets/app.js", func(r *http.Request) { r.Header.Set("If-None-Match", tag) }); got.Code != http.StatusNotModified || got.Body.Len() > 0 {
		t.Errorf("with the tag %s: %d and %d bytes, want 304 and none", tag, got.Code, got.Body.Len())
	}
	if got := ask(h, "/", func(r *http.Request) { r.Method = http.MethodHead }); got.Body.Len() > 0 || got.Header().Get("Content-Length") == "0" {
		t.Errorf("HEAD: %d bytes, length %s", got.Body.Len(), got.Header().Get("Content-Length"))
	}
}

// TestBudget holds the bundle to what a first visit may cost.
func TestBudget(t *testing.T) {
	const budget = 150 << 10
	s, err := bundle()
	if err != nil {
		t.Fatal(err)
	}
	all := 0
	var sizes []string
	for name, file := range s.files {
		if strings.HasSuffix(name, ".txt") {
			continue // nobody's browser asks for it by itself
		}
		all += len(file.packed())
		sizes = append(sizes, fmt.Sprintf("%s %d", name, len(file.packed())))
	}
	slices.Sort(sizes)
	if all > budget {
		t.Errorf("the bundle has %d bytes compressed, want at most %d:\n%s", all, budget, strings.Join(sizes, "\n"))
	}
}

// TestBundleKeepsToThePolicy finds what the policy would refuse, and what no file of
// ours may ask another server for.
func TestBundleKeepsToThePolicy(t *testing.T) {
	html, err := fs.ReadFile(dist, "dist/index.html")
	if err != nil {
		t.Fatal(err)
	}
	if bad := regexp.MustCompile(`(?i)<style|\sstyle=|\son\w+=|<script(?:[^>]*[^/])?>[^<]|https?://`).Find(html); bad != nil {
		t.Errorf("index.html has %q, which the policy refuses", bad)
	}
	for _, name := range []string{"app.js", "layout.worker.js", "style.css"} {
		data, err := fs.ReadFile(dist, "dist/assets/"+name)
		if err != nil {
			t.Fatal(err)
		}
		for _, url := range regexp.MustCompile(`https?://[\w.-]+`).FindAllString(string(data), -1) {
			if url != "http://www.w3.org" && url != "https://svelte.dev" { // names, no addresses
				t.Errorf("%s names %s", name, url)
			}
		}
		if bad := regexp.MustCompile(`\beval\(|new Function\(|@import`).Find(data); bad != nil {
			t.Errorf("%s has %q", name, bad)
		}
	}
}

func TestServeRefusesTheNetwork(t *testing.T) {
	l := fakeListener{addr: &net.TCPAddr{IP: net.IPv4zero, Port: 80}}
	if err := Serve(t.Context(), l, Config{}); err == nil || !strings.Contains(err.Error(), "loopback") {
		t.Errorf("%v, want an error that says loopback", err)
	}
}

type fakeListener struct {
	net.Listener
	addr net.Addr
}

func (l fakeListener) Addr() net.Addr { return l.addr }
func (l fakeListener) Close() error   { return nil }

// TestServeEnds sees that a stream, too, ends with the context.
func TestServeEnds(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	began := make(chan struct{})
	endless := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "{}")
		_ = http.NewResponseController(w).Flush()
		close(began)
		<-r.Context().Done()
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, Config{API: endless}) }()
	response, err := http.Get("http://" + l.Addr().String() + "/api/v1alpha1/watch/tap")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	<-began
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("Serve: %v, want nil at the end of its context", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("Serve goes on after its context has ended")
	}
}
