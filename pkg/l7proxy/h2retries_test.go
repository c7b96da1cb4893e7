package l7proxy

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/underlane/underlane/pkg/l7proxy/http2"
	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

// ample is a time limit within which a busy machine does all that comes before.
const ample = 2 * time.Second

// stalled waits for the end of a request, and no longer than a test.
func stalled(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(20 * time.Second):
	}
}

// TestH2RoutedRetries: what the policy lists goes to another endpoint, with its
// body, and not more often than it says.
func TestH2RoutedRetries(t *testing.T) {
	var bad, good atomic.Int64
	failing, _ := serveH2C(t, func(w http.ResponseWriter, r *http.Request) {
		bad.Add(1)
		switch r.URL.Path {
		case "/slow":
			stalled(r.Context())
		case "/reset":
			panic(http.ErrAbortHandler)
		case "/hinted":
			w.WriteHeader(http.StatusEarlyHints)
			fallthrough
		default:
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprint(w, "busy")
		}
	})
	working, _ := serveH2C(t, func(w http.ResponseWriter, r *http.Request) {
		good.Add(1)
		s, n, _ := proxytest.Sum(r.Body)
		if n > 0 && s != proxytest.PatternSum(n) {
			fmt.Fprint(w, "changed ")
		}
		fmt.Fprint(w, n)
	})
	soon := func(r mesh.RouteRetry) mesh.RouteRetry { r.Backoff = time.Millisecond; return r }
	listed := func(n int) mesh.RouteRetry { return soon(mesh.RouteRetry{Codes: []uint16{503}, Attempts: n}) }
	const trailer = -1 // a body of 5 bytes, then trailers
	for name, tt := range map[string]struct {
		endpoints []string
		retry     mesh.RouteRetry
		timeouts  mesh.RouteTimeouts
		path      string
		body      int64
		pause     time.Duration // in its middle
		status    int
		want      string
		bad, good int64
	}{
		"listed status":       {[]string{failing}, listed(2), mesh.RouteTimeouts{}, "/", 0, 0, 503, "busy", 3, 0},
		"another status":      {[]string{failing}, soon(mesh.RouteRetry{Codes: []uint16{500}, Attempts: 2}), mesh.RouteTimeouts{}, "/", 0, 0, 503, "busy", 1, 0},
		"after a hint":        {[]string{failing}, listed(2), mesh.RouteTimeouts{}, "/hinted", 0, 0, 503, "busy", 1, 0},
		"another endpoint":    {[]string{failing, working}, listed(1), mesh.RouteTimeouts{}, "/", 5, 0, 200, "5", -1, 1},
		"most of a body":      {[]string{failing, working}, listed(1), mesh.RouteTimeouts{}, "/", 60 << 10, 0, 200, "61440", -1, 1},
		"a body that goes on": {[]string{failing, working}, listed(1), mesh.RouteTimeouts{}, "/", 40 << 10, 50 * time.Millisecond, 200, "40960", -1, 1},
		// The answer comes before more of the body than is kept.
		"a large body":     {[]string{failing, working}, listed(1), mesh.RouteTimeouts{}, "/", 1 << 20, time.Second, 200, "1048576", -1, 1},
		"trailers":         {[]string{failing}, listed(1), mesh.RouteTimeouts{}, "/slow", trailer, 0, 504, "", 1, 0},
		"reset":            {[]string{failing, working}, soon(mesh.RouteRetry{Attempts: 1}), mesh.RouteTimeouts{}, "/reset", 0, 0, 200, "0", -1, 1},
		"backend time-out": {[]string{failing, working}, soon(mesh.RouteRetry{Attempts: 1}), mesh.RouteTimeouts{BackendRequest: ample}, "/slow", 0, 0, 200, "0", -1, 1},
		"every time":       {[]string{failing}, soon(mesh.RouteRetry{Attempts: 1}), mesh.RouteTimeouts{BackendRequest: ample}, "/slow", 0, 0, 504, "", 2, 0},
		"request time-out": {[]string{failing}, soon(mesh.RouteRetry{Attempts: 1}), mesh.RouteTimeouts{Request: ample}, "/slow", 0, 0, 504, "", 1, 0},
		"no time for more": {[]string{failing}, mesh.RouteRetry{Codes: []uint16{503}, Attempts: 1, Backoff: time.Minute}, mesh.RouteTimeouts{Request: ample}, "/", 0, 0, 503, "busy", 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			if tt.body == trailer {
				tt.timeouts.BackendRequest = ample
			}
			for range 200 { // the first choice is a matter of luck
				bad.Store(0)
				good.Store(0)
				s := newShop(t)
				s.service("apex", tt.endpoints...)
				s.route(mesh.RouteRule{Backends: []mesh.RouteBackend{to("apex", 1)}, Retry: &tt.retry, Timeouts: tt.timeouts})
				c := s.h2apex()
				req := c.request("GET", tt.path, nil)
				switch {
				case tt.body == trailer:
					req = c.request("PUT", tt.path, struct{ io.Reader }{strings.NewReader("hello")})
					req.Trailer = http.Header{"X-Trail": {"1"}}
				case tt.body > 0:
					req = c.request("PUT", tt.path, &paused{Reader: proxytest.NewPattern(tt.body), at: min(tt.body/2, 32<<10), pause: tt.pause})
				}
				resp, err := c.http.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if resp.StatusCode != tt.status || tt.want != "" && string(body) != tt.want || err != nil {
					t.Fatalf("%d %q %s %v", resp.StatusCode, body, resp.Header.Get("Underlane-Reason"), err)
				}
				if tt.bad >= 0 && (bad.Load() != tt.bad || good.Load() != tt.good) {
					t.Errorf("%d attempts failed and %d were answered; want %d and %d", bad.Load(), good.Load(), tt.bad, tt.good)
				}
				if ev := s.tap.Wait(t, tap.ResponseEnd, 0); tt.bad > 0 && ev.Retries != int(tt.bad)-1 {
					t.Errorf("tap has %d retries", ev.Retries)
				}
				if tt.bad >= 0 || bad.Load() > 0 {
					return
				}
			}
			t.Error("the failing endpoint was never the first choice")
		})
	}
}

// paused is a reader that stops for a moment at a place.
type paused struct {
	io.Reader
	read, at int64
	pause    time.Duration
}

func (p *paused) Read(b []byte) (int, error) {
	if p.read == p.at && p.pause > 0 {
		time.Sleep(p.pause)
	}
	if p.read < p.at {
		b = b[:min(int64(len(b)), p.at-p.read)]
	}
	n, err := p.Reader.Read(b)
	p.read += int64(n)
	return n, err
}

// TestH2RetryBudget: a service that is down gets few requests more than its
// clients make.
func TestH2RetryBudget(t *testing.T) {
	var attempts atomic.Int64
	s := newShop(t)
	s.h2handler(t, "apex", func(w http.ResponseWriter, _ *http.Request) {
		attempts.Add(1)
		w.WriteHeader(http.StatusBadGateway)
	})
	s.route(mesh.RouteRule{
		Backends: []mesh.RouteBackend{to("apex", 1)},
		Retry:    &mesh.RouteRetry{Codes: []uint16{502}, Attempts: 3, Backoff: time.Microsecond},
	})
	c := s.h2apex()
	const n = 1000
	began := time.Now()
	for range n {
		c.do("GET", "/", nil)
	}
	// A fifth of all, and ten a second besides.
	most := n + n/4 + 10*int64(time.Since(began)/time.Second+1)
	if got := attempts.Load(); got <= n || got > most {
		t.Errorf("%d attempts for %d requests, want some more and at most %d", got, n, most)
	}
	if s.proxy.RetriesRefused() == 0 {
		t.Error("what was refused is not counted")
	}
}

// TestH2CallRetries: a call whose status is listed is made again, with all its
// messages.
func TestH2CallRetries(t *testing.T) {
	var bad atomic.Int64
	failing := grpcAnswers(t, func(s grpc.ServerStream) error {
		bad.Add(1)
		_ = s.RecvMsg(new(wrapperspb.StringValue))
		return status.Error(codes.Unavailable, "going away")
	})
	silent := grpcAnswers(t, func(s grpc.ServerStream) error {
		bad.Add(1)
		stalled(s.Context())
		return nil
	})
	working := grpcAnswers(t, echoes)
	policy := mesh.RouteRetry{GRPCCodes: []uint8{uint8(codes.Unavailable), uint8(codes.DeadlineExceeded)}, Attempts: 1, Backoff: time.Millisecond}
	for name, tt := range map[string]struct {
		endpoints []string
		timeouts  mesh.RouteTimeouts
		code      codes.Code
		reason    mesh.Reason
	}{
		"unavailable":  {[]string{failing, working}, mesh.RouteTimeouts{}, codes.OK, 0},
		"at the end":   {[]string{failing}, mesh.RouteTimeouts{}, codes.Unavailable, 0},
		"silent":       {[]string{silent, working}, mesh.RouteTimeouts{BackendRequest: ample}, codes.OK, 0},
		"ever silent":  {[]string{silent}, mesh.RouteTimeouts{BackendRequest: 500 * time.Millisecond}, codes.DeadlineExceeded, mesh.ReasonTimeout},
		"silent whole": {[]string{silent}, mesh.RouteTimeouts{Request: 500 * time.Millisecond}, codes.DeadlineExceeded, mesh.ReasonTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			for range 200 {
				bad.Store(0)
				s := newShop(t)
				s.service("apex", tt.endpoints...)
				s.grpcRoute(mesh.RouteRule{Backends: []mesh.RouteBackend{to("apex", 1)}, Retry: &policy, Timeouts: tt.timeouts})
				cc := s.grpcApex()
				got, err := unary(cc, "hello")
				cc.Close()
				if status.Code(err) != tt.code || err == nil && got != "hello" {
					t.Fatalf("got %q %v, want \"hello\" if it succeeds, and the code %v", got, err, tt.code)
				}
				ev := s.tap.Wait(t, tap.ResponseEnd, 0)
				if ev.GRPCStatus != int(tt.code) || ev.Reason != tt.reason {
					t.Errorf("tap has %d, %v", ev.GRPCStatus, ev.Reason)
				}
				if want := int(bad.Load()); tt.code == codes.OK && ev.Retries != want {
					t.Errorf("tap has %d retries, want %d", ev.Retries, want)
				}
				if tt.code != codes.OK || bad.Load() > 0 {
					return
				}
			}
			t.Error("the failing endpoint was never the first choice")
		})
	}
}

// TestH2TimeoutInTheResponse: once the head is out, all that a time-out can do is
// to cut the response, or to fail the call in its trailers.
func TestH2TimeoutInTheResponse(t *testing.T) {
	s := newShop(t)
	s.h2handler(t, "apex", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "begin")
		_ = http.NewResponseController(w).Flush()
		stalled(r.Context())
	})
	s.service("blue", grpcAnswers(t, func(s grpc.ServerStream) error {
		_ = s.SendMsg(wrapperspb.String("begin"))
		stalled(s.Context())
		return nil
	}))
	limits := mesh.RouteTimeouts{BackendRequest: ample}
	s.route(mesh.RouteRule{Backends: []mesh.RouteBackend{to("apex", 1)}, Timeouts: limits})
	s.grpcRoute(mesh.RouteRule{Backends: []mesh.RouteBackend{to("blue", 1)}, Timeouts: limits})
	resp, err := s.h2apex().http.Get(s.h2apex().base)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); string(body) != "begin" || err == nil {
		t.Errorf("got %q %v, want \"begin\" and an error", body, err)
	}
	if ev := s.tap.Wait(t, tap.ResponseEnd, 0); ev.Reason != mesh.ReasonTimeout || !ev.Reset {
		t.Errorf("tap has %v, reset %v", ev.Reason, ev.Reset)
	}
	stream, err := s.grpcApex().NewStream(t.Context(), bidi, "/t.T/Chat")
	if err != nil {
		t.Fatal(err)
	}
	m := new(wrapperspb.StringValue)
	if err := stream.RecvMsg(m); err != nil || m.Value != "begin" {
		t.Errorf("got %q %v, want \"begin\"", m.Value, err)
	}
	if err := stream.RecvMsg(m); status.Code(err) != codes.DeadlineExceeded {
		t.Error(err)
	}
	if ev := s.tap.Wait(t, tap.ResponseEnd, 1); ev.Reason != mesh.ReasonTimeout || ev.GRPCStatus != 4 {
		t.Errorf("tap has %v, %d", ev.Reason, ev.GRPCStatus)
	}
}

// betweenAttempts reports whether a request waits for its next attempt.
func (s *shop) betweenAttempts() bool {
	return s.proxy.h2.Stats().Retrying > 0
}

// TestH2CancelBetweenAttempts: who goes away while the next attempt waits for its
// time gets none.
func TestH2CancelBetweenAttempts(t *testing.T) {
	var attempts atomic.Int64
	s := newShop(t)
	s.h2handler(t, "apex", func(w http.ResponseWriter, _ *http.Request) {
		attempts.Add(1)
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	s.route(mesh.RouteRule{
		Backends: []mesh.RouteBackend{to("apex", 1)},
		Retry:    &mesh.RouteRetry{Codes: []uint16{503}, Attempts: 1, Backoff: 5 * time.Minute},
	})
	c := s.h2apex()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		for t.Context().Err() == nil && !s.betweenAttempts() {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	if resp, err := c.http.Do(c.request("GET", "/", nil).WithContext(ctx)); err == nil {
		resp.Body.Close()
		t.Errorf("answered %d", resp.StatusCode)
	}
	if ev := s.tap.Wait(t, tap.ResponseEnd, 0); ev.Reason != mesh.ReasonClientReset || ev.Retries != 1 || attempts.Load() != 1 {
		t.Errorf("tap has %v, %d retries; %d attempts", ev.Reason, ev.Retries, attempts.Load())
	}
}

// TestH2ReplayWindow: what is sent again and again is paid for once: the client's
// window neither grows nor shrinks by retries, whatever of the body each attempt
// took.
func TestH2ReplayWindow(t *testing.T) {
	const (
		body     = 30_000 // windows are given back by halves: this is less than that
		attempts = 9
		small    = 1000 // the server's window
		more     = 1 << 20
	)
	b := newBackend(t)
	s := newShop(t)
	s.service("apex", b.addr)
	s.route(mesh.RouteRule{
		Backends: []mesh.RouteBackend{to("apex", 1)},
		Retry:    &mesh.RouteRetry{Codes: []uint16{503}, Attempts: attempts - 1, Backoff: time.Millisecond},
	})
	c := dialFrames(t, s.to(s.services["apex"].String()))
	c.headers(1, true, ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "svc")
	server := serveFrames(b.request(), xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: small})
	server.next()
	server.headers(1, true, ":status", "200")
	c.want("HEADERS 1 :status=200 END") // by now the proxy knows the server's settings
	c.headers(3, false, ":method", "PUT", ":scheme", "http", ":path", "/", ":authority", "svc")
	for left := body; left > 0; left -= 10_000 {
		c.data(3, false, strings.Repeat("x", 10_000))
	}
	// take reads so much of the body.
	take := func(id uint32, n int) {
		t.Helper()
		for n > 0 {
			fr, err := server.fr.ReadFrame()
			server.must(err)
			switch fr := fr.(type) {
			case *xhttp2.DataFrame:
				if fr.StreamID == id {
					n -= len(fr.Data())
				}
				server.must(server.fr.WriteWindowUpdate(0, max(uint32(len(fr.Data())), 1)))
			case *xhttp2.SettingsFrame:
				if !fr.IsAck() {
					server.must(server.fr.WriteSettingsAck())
				}
			case *xhttp2.MetaHeadersFrame, *xhttp2.WindowUpdateFrame, *xhttp2.RSTStreamFrame:
			default:
				t.Fatalf("got %v, want a frame that the server expects", fr)
			}
		}
		if n < 0 {
			t.Fatalf("%d bytes too many", -n)
		}
	}
	id := uint32(3)
	for i := range attempts - 1 {
		take(id, small)
		if i%2 == 1 {
			server.must(server.fr.WriteWindowUpdate(id, 25_000))
			take(id, 25_000)
		}
		server.headers(id, true, ":status", "503")
		id += 2
	}
	take(id, small)
	server.must(server.fr.WriteWindowUpdate(id, 4<<20))
	take(id, body-small)

	c.must(c.fr.WritePing(false, [8]byte{}))
	for ponged := false; !ponged; {
		fr, err := c.fr.ReadFrame()
		c.must(err)
		switch fr := fr.(type) {
		case *xhttp2.WindowUpdateFrame:
			if fr.StreamID == 3 {
				t.Fatalf("%d bytes given back of %d", fr.Increment, body)
			}
		case *xhttp2.PingFrame:
			ponged = true
		}
	}

	// The client goes on, as its window lets it.
	window := http2.FirstStreamWindow - body
	conn := 250*256<<10 - body
	done := make(chan struct{})
	go func() { defer close(done); take(id, more) }()
	for left := more; left > 0; {
		if n := min(left, window, conn, 16_000); n > 0 {
			c.data(3, n == left, strings.Repeat("x", n))
			left, window, conn = left-n, window-n, conn-n
			continue
		}
		fr, err := c.fr.ReadFrame()
		c.must(err)
		switch fr := fr.(type) {
		case *xhttp2.WindowUpdateFrame:
			if fr.StreamID == 3 {
				window += int(fr.Increment)
			} else {
				conn += int(fr.Increment)
			}
		case *xhttp2.SettingsFrame:
		default:
			t.Fatalf("got %v, want a frame that the server expects", fr)
		}
	}
	<-done
	server.headers(id, true, ":status", "200")
	for c.next() != "HEADERS 3 :status=200 END" {
	}
	if ev := s.tap.Wait(t, tap.ResponseEnd, 1); ev.Retries != attempts-1 || ev.ReadBytes != body+more || ev.Status != 200 {
		t.Errorf("tap: %d retries, %d bytes, status %d", ev.Retries, ev.ReadBytes, ev.Status)
	}
}
