package l7proxy

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/mesh"
)

func TestH2Relay(t *testing.T) {
	backend, _ := serveH2C(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Trailer", "X-Sum")
		w.Header().Set("X-Saw", r.Method+" "+r.Host+" "+r.URL.Path+" "+r.Header.Get("X-Ask"))
		w.WriteHeader(http.StatusTeapot)
		_, _ = w.Write(bytes.ToUpper(body))
		w.Header().Set("X-Sum", "7")
	})
	e := newH2Env(t, backend)
	req, _ := http.NewRequest("POST", e.url("/a"), strings.NewReader("hello"))
	req.Host = "svc.ns"
	req.Header.Set("X-Ask", "yes")
	resp, err := e.client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || string(body) != "HELLO" || resp.StatusCode != 418 || resp.Trailer.Get("X-Sum") != "7" ||
		resp.Header.Get("X-Saw") != "POST svc.ns /a yes" {
		t.Errorf("%q %v %d %v %v", body, err, resp.StatusCode, resp.Header, resp.Trailer)
	}
	ev := e.tap.end(t, 0)
	if ev.Status != 418 || ev.Method != "POST" || ev.Path != "/a" || ev.Authority != "svc.ns" || ev.ReadBytes != 5 ||
		ev.WriteBytes != 5 || ev.Protocol != "http2" || ev.TLS != "true" || ev.Reason != mesh.ReasonNone || ev.Reset {
		t.Errorf("tap: %+v", ev)
	}
}

func TestH2HeadAndInterim(t *testing.T) {
	backend, _ := serveH2C(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Set("Content-Length", "5")
		if r.Method != "HEAD" {
			_, _ = io.WriteString(w, "12345")
		}
	})
	e := newH2Env(t, backend)
	c := e.client()
	for _, method := range []string{"HEAD", "GET"} {
		req, _ := http.NewRequest(method, e.url("/"), nil)
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if want := map[string]int{"HEAD": 0, "GET": 5}[method]; len(body) != want || resp.ContentLength != 5 {
			t.Errorf("%s: %d bytes, content-length %d", method, len(body), resp.ContentLength)
		}
	}
}

// TestH2BackPressure: a client that does not read stops the server, within the
// windows; and gets everything once it reads.
func TestH2BackPressure(t *testing.T) {
	const size = 64 << 20
	var sent atomic.Int64
	backend, _ := serveH2C(t, func(w http.ResponseWriter, _ *http.Request) {
		src := proxytest.NewPattern(size)
		buf := make([]byte, 32<<10)
		for {
			n, err := src.Read(buf)
			if err != nil {
				return
			}
			if _, err := w.Write(buf[:n]); err != nil {
				return
			}
			sent.Add(int64(n))
		}
	})
	e := newH2Env(t, backend)
	resp, err := e.client().Get(e.url("/"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for last := int64(-1); last != sent.Load(); time.Sleep(200 * time.Millisecond) {
		last = sent.Load()
	}
	if got := sent.Load(); got > 8<<20 { // net/http's client takes 4 MiB unread
		t.Errorf("the server could send %d MiB to a client that does not read", got>>20)
	}
	got, n, err := proxytest.Sum(resp.Body)
	if err != nil || n != size || got != proxytest.PatternSum(size) {
		t.Errorf("%d bytes, %v, or their content differs", n, err)
	}
}

func TestH2Upload(t *testing.T) {
	const size = 64 << 20
	backend, _ := serveH2C(t, func(w http.ResponseWriter, r *http.Request) {
		s, _, _ := proxytest.Sum(r.Body)
		_, _ = io.WriteString(w, s)
	})
	e := newH2Env(t, backend)
	resp, err := e.client().Post(e.url("/"), "", proxytest.NewPattern(size))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); string(body) != proxytest.PatternSum(size) {
		t.Error("the body arrived changed")
	}
}

func TestH2ThousandStreams(t *testing.T) {
	const streams = 1000
	var here atomic.Int64
	all := make(chan struct{})
	backend, _ := serveH2C(t, func(w http.ResponseWriter, r *http.Request) {
		if here.Add(1) == streams {
			close(all)
		}
		<-all // until every one has arrived
		_, _ = io.WriteString(w, r.URL.Path)
	})
	e := newH2Env(t, backend)
	c := e.client()
	var wg sync.WaitGroup
	within(t, time.Minute, func() {
		for i := range streams {
			wg.Go(func() {
				path := "/" + strings.Repeat("x", i%50)
				resp, err := c.Get(e.url(path))
				if err != nil {
					t.Error(err)
					return
				}
				defer resp.Body.Close()
				if body, _ := io.ReadAll(resp.Body); string(body) != path {
					t.Errorf("%d %q for %q", resp.StatusCode, body, path)
				}
			})
		}
		wg.Wait()
	})
}

func TestH2ClientCancels(t *testing.T) {
	cancelled := make(chan struct{})
	backend, _ := serveH2C(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(200)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		close(cancelled)
	})
	e := newH2Env(t, backend)
	ctx, cancel := context.WithCancel(context.Background())
	req, _ := http.NewRequestWithContext(ctx, "GET", e.url("/"), nil)
	resp, err := e.client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	cancel()
	within(t, 30*time.Second, func() { <-cancelled })
	if ev := e.tap.end(t, 0); ev.Reason != mesh.ReasonClientReset || !ev.Reset {
		t.Errorf("tap: %v reset=%v", ev.Reason, ev.Reset)
	}
}

func TestH2ServerResets(t *testing.T) {
	backend, _ := serveH2C(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "half")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	e := newH2Env(t, backend)
	resp, err := e.client().Get(e.url("/"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Error("a response that was cut short looks complete")
	}
	if ev := e.tap.end(t, 0); ev.Reason != mesh.ReasonUpstreamReset || !ev.Reset {
		t.Errorf("tap: %v reset=%v", ev.Reason, ev.Reset)
	}
}

// TestH2ServerDies: its connection ends before, and in the middle of, a response.
func TestH2ServerDies(t *testing.T) {
	die, in := make(chan struct{}), make(chan struct{}, 2)
	backend, srv := serveH2C(t, func(w http.ResponseWriter, r *http.Request) {
		in <- struct{}{}
		if r.URL.Path == "/half" {
			_, _ = io.WriteString(w, "half")
			_ = http.NewResponseController(w).Flush()
		}
		<-die
	})
	e := newH2Env(t, backend)
	c := e.client()
	half, err := c.Get(e.url("/half"))
	if err != nil {
		t.Fatal(err)
	}
	defer half.Body.Close()
	whole := make(chan *http.Response)
	go func() {
		defer close(whole)
		if resp, err := c.Get(e.url("/whole")); err == nil {
			whole <- resp
		} else {
			t.Error(err)
		}
	}()
	<-in
	<-in
	srv.Close()
	defer close(die)
	if resp := <-whole; resp != nil {
		resp.Body.Close()
		if resp.StatusCode != 502 || resp.Header.Get("Underlane-Reason") != "upstream-reset" {
			t.Errorf("got %d %v, want 502 with underlane-reason: upstream-reset", resp.StatusCode, resp.Header)
		}
	}
	if _, err := io.ReadAll(half.Body); err == nil {
		t.Error("half a response looks complete")
	}
}

func TestH2SyntheticAnswers(t *testing.T) {
	e := newH2Env(t, nobody(t))
	c := e.client()
	for _, tt := range []struct {
		reason mesh.Reason
		refuse mesh.Reason
	}{
		{mesh.ReasonConnectRefused, mesh.ReasonNone},
		{mesh.ReasonNoEndpoints, mesh.ReasonNoEndpoints},
		{mesh.ReasonPolicyDenied, mesh.ReasonPolicyDenied},
	} {
		e.target.mu.Lock()
		e.target.refuse = tt.refuse
		e.target.mu.Unlock()
		// The body is larger than any window: nobody reads it.
		resp, err := c.Post(e.url("/"), "", proxytest.NewPattern(4<<20))
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != tt.reason.HTTPStatus() || resp.Header.Get("Underlane-Reason") != tt.reason.String() ||
			string(body) != tt.reason.Text()+"\n" {
			t.Errorf("%v: %d %v %q", tt.reason, resp.StatusCode, resp.Header, body)
		}
	}
	if ev := e.tap.end(t, 1); ev.Reason != mesh.ReasonNoEndpoints || ev.Status != 503 || ev.Reset {
		t.Errorf("tap: %v %d", ev.Reason, ev.Status)
	}
}

// TestH2AnotherEndpoint: an endpoint that cannot be reached costs nothing
// where there is another.
func TestH2AnotherEndpoint(t *testing.T) {
	backend, _ := serveH2C(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = w.Write(body)
	})
	e := newH2Env(t, nobody(t), backend)
	c := e.client()
	for range 6 {
		resp, err := c.Post(e.url("/"), "", strings.NewReader("once"))
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(body) != "once" {
			t.Errorf("got %d %q, want \"once\"", resp.StatusCode, body)
		}
	}
}
