package l7proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/rawio"
	"github.com/underlane/underlane/pkg/tap"
)

// slowDials is a network in which a connection takes a while.
type slowDials struct {
	*proxytest.Network
	wait time.Duration
}

func (n slowDials) Dial(ctx context.Context, from string, dst netip.AddrPort) (*rawio.Conn, error) {
	select {
	case <-time.After(n.wait):
		return n.Network.Dial(ctx, from, dst)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// slowBody is a body of two halves, of which the second comes later.
type slowBody struct {
	wait time.Duration
	read int
}

func (b *slowBody) Read(p []byte) (int, error) {
	if b.read++; b.read == 2 {
		time.Sleep(b.wait)
	}
	if b.read > 2 {
		return 0, io.EOF
	}
	return copy(p, strings.Repeat("x", 100)), nil
}

// partsOfSplit are the parts of a split by name.
var partsOfSplit = map[string]func(*tap.Split) time.Duration{
	"queue":      func(s *tap.Split) time.Duration { return s.Queue },
	"connect":    func(s *tap.Split) time.Duration { return s.Connect },
	"tls":        func(s *tap.Split) time.Duration { return s.TLS },
	"first byte": func(s *tap.Split) time.Duration { return s.FirstByte },
	"body":       func(s *tap.Split) time.Duration { return s.Body },
}

// splitCase is a call in which one part takes long.
type splitCase struct {
	want   string // part
	serve  http.HandlerFunc
	dial   time.Duration
	rules  mesh.RouteRule
	upload bool // the client is slow to send the request's body
	warm   bool // on a connection that is there
}

// splitCases returns the cases of TestSplit, in which the part takes as long as wait.
func splitCases(wait time.Duration) map[string]splitCase {
	flush := func(w http.ResponseWriter) { _ = http.NewResponseController(w).Flush() }
	answer := func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }
	return map[string]splitCase{
		"slow dial":     {want: "connect", serve: answer, dial: wait},
		"dial too slow": {want: "connect", serve: answer, dial: time.Hour, rules: mesh.RouteRule{Timeouts: mesh.RouteTimeouts{Request: wait}}},
		"attempt's dial too slow": {
			want: "connect", serve: answer, dial: time.Hour, rules: mesh.RouteRule{Timeouts: mesh.RouteTimeouts{BackendRequest: wait}},
		},
		"delay by a route": {want: "queue", serve: answer, rules: mesh.RouteRule{Filters: mesh.RouteFilters{
			Fault: &mesh.RouteFault{Delay: wait, DelayShare: mesh.Fraction{Numerator: 1, Denominator: 1}},
		}}},
		"pause of a retry": {want: "queue", serve: func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusServiceUnavailable)
		}, rules: mesh.RouteRule{Retry: &mesh.RouteRetry{Codes: []uint16{503}, Attempts: 1, Backoff: wait}}},
		"slow server": {want: "first byte", serve: func(http.ResponseWriter, *http.Request) { time.Sleep(wait) }},
		"slow server, warm": {want: "first byte", serve: func(_ http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodPut {
				time.Sleep(wait)
			}
		}, warm: true},
		"server slower than the attempt may be": {want: "first byte", serve: func(_ http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
		}, rules: mesh.RouteRule{Timeouts: mesh.RouteTimeouts{BackendRequest: wait}}},
		"slow body": {want: "body", serve: func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "first")
			flush(w)
			time.Sleep(wait)
			_, _ = io.WriteString(w, "last")
		}},
		"slow upload": {want: "body", serve: answer, upload: true},
	}
}

// TestSplit: where the time of a call goes is in the right part of its split, in both
// protocols. The parts add up to its duration. A busy machine adds time to every part; what
// is wrong in the proxy shows with a longer wait, too.
func TestSplit(t *testing.T) {
	for name := range splitCases(0) {
		for protocol, http2 := range protocolsOfHTTP {
			t.Run(protocol+" "+name, func(t *testing.T) {
				problem := ""
				for _, wait := range []time.Duration{200 * time.Millisecond, time.Second, 4 * time.Second} {
					if problem = splitCases(wait)[name].call(t, http2, wait); problem == "" {
						return
					}
					t.Logf("with a wait of %v: %s", wait, problem)
				}
				t.Error(problem)
			})
		}
	}
}

// call makes the call, and says what is wrong with the largest part of its split, "" if
// nothing is.
func (c splitCase) call(t *testing.T, http2 bool, wait time.Duration) string {
	t.Helper()
	s := newShop(t)
	addr, _ := counted(t, c.serve)
	s.service("apex", addr)
	if c.rules.Timeouts != (mesh.RouteTimeouts{}) || c.rules.Retry != nil || c.rules.Filters.Fault != nil {
		rule := c.rules
		rule.Backends = []mesh.RouteBackend{to("apex", 1)}
		s.route(rule)
	}
	if c.dial > 0 {
		s.proxy.upstream.Network = slowDials{s.network, c.dial}
	}
	client, url := clientOf(t, http2), "http://"+s.to(s.services["apex"].String())
	send := func(method string, body io.Reader) {
		request, err := http.NewRequest(method, url, body)
		if err != nil {
			t.Fatal(err)
		}
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, response.Body)
		response.Body.Close()
	}
	n := 0
	if c.warm {
		send(http.MethodPut, nil)
		n = 1
	}
	if c.upload {
		send(http.MethodPost, &slowBody{wait: wait})
	} else {
		send(http.MethodGet, nil)
	}
	e := s.tap.Wait(t, tap.ResponseEnd, n)
	var sum, most time.Duration
	largest := ""
	for part, of := range partsOfSplit {
		d := of(&e.Split)
		if d < 0 {
			t.Errorf("%s is %v, want none below 0", part, d)
		}
		if sum += d; d > most {
			most, largest = d, part
		}
	}
	if sum != e.Duration {
		t.Errorf("the parts of %+v add up to %v, want the duration %v", e.Split, sum, e.Duration)
	}
	// A timer of a client or server may have begun in the parts before the one that
	// it is in, and a little before the request.
	if least := wait*9/10 - (sum - most); largest != c.want || most < least {
		return fmt.Sprintf("%+v: got the most in %s, want at least %v in %s", e.Split, largest, least, c.want)
	}
	return ""
}

// TestSplitOfOpaque: the end of a connection of opaque bytes says how long it took until it
// was open, or until it had failed, and from then until the server's first byte.
func TestSplitOfOpaque(t *testing.T) {
	const wait = 300 * time.Millisecond
	for name, dial := range map[string]time.Duration{"slow dial": wait, "dial too slow": time.Hour} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			e.proxy.upstream.Network = slowDials{e.network, dial}
			if dial > wait {
				e.proxy.upstream.Limits.Connect = wait
			}
			echo := serveConns(t, func(nc net.Conn) { io.Copy(nc, nc) })
			c := e.dial(echo)
			c.send("\x00hello")
			if dial == wait {
				c.expect("\x00hello")
				if e := e.tap.Wait(t, tap.ConnOpen, 0); e.Split.Connect < wait {
					t.Errorf("it opens with %+v, want at least %v to connect", e.Split, wait)
				}
				c.Close()
			}
			ends := e.tap.Wait(t, tap.ConnClose, 0)
			answered := dial == wait
			if s := ends.Split; s.Connect < wait || s.TLS != 0 || (s.FirstByte != 0) != answered || s.FirstByte > ends.Duration || s.Body != 0 {
				t.Errorf("it ends with %+v, want at least %v to connect, a first byte: %v, and nothing else", s, wait, answered)
			}
			if want := answered; (ends.Reason == mesh.ReasonNone) != want {
				t.Errorf("reason %q, want a connection: %v", ends.Reason, want)
			}
		})
	}
}
