package l7proxy

import (
	"fmt"
	"strings"
	"testing"

	xhttp2 "golang.org/x/net/http2"

	"github.com/underlane/underlane/pkg/mesh"
)

// TestH2EveryReason: whatever the proxy refuses has the status of the one table,
// and a gRPC call its grpc-status, in an answer of trailers only.
func TestH2EveryReason(t *testing.T) {
	e := newH2Env(t)
	c := dialFrames(t, e.addr)
	get := []string{":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a"}
	call := append(get[:len(get):len(get)], "content-type", "application/grpc")
	id := uint32(1)
	ask := func(fields []string) string {
		c.headers(id, true, fields...)
		id += 2
		return c.next()
	}
	for reason := mesh.ReasonNone + 1; reason < mesh.NumReasons; reason++ {
		if reason.HTTPStatus() == 0 {
			continue // no answer is ever made
		}
		e.target.mu.Lock()
		e.target.refuse = reason
		e.target.mu.Unlock()
		challenge := ""
		if reason == mesh.ReasonBadToken { // RFC 6750 §3
			challenge = `www-authenticate=Bearer error="invalid_token" `
		}
		want := fmt.Sprintf("HEADERS %d :status=%d underlane-reason=%s %scontent-type=text/plain; charset=utf-8 content-length=%d", id, reason.HTTPStatus(), reason, challenge, len(reason.Text())+1)
		if got := ask(get); got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
		c.want(fmt.Sprintf("DATA %d %q END", id-2, reason.Text()+"\n"))
		want = fmt.Sprintf("HEADERS %d :status=200 content-type=application/grpc grpc-status=%d grpc-message=", id, reason.GRPCCode())
		if got := ask(call); !strings.HasPrefix(got, want) || !strings.HasSuffix(got, " underlane-reason="+reason.String()+" END") {
			t.Errorf("%s\nwant %s… underlane-reason=%s END", got, want, reason)
		}
	}
}

// TestH2ResponseHeaderTooLarge: a response whose head, interim head or trailers are over
// the limit, the proxy's or the client's own, is not told as one that breaks the protocol.
func TestH2ResponseHeaderTooLarge(t *testing.T) {
	many := func(fields ...string) []string {
		for range 300 {
			fields = append(fields, "x", "y")
		}
		return fields
	}
	const told = " :status=502 underlane-reason=response-header-too-large content-type=text/plain; charset=utf-8 content-length=48"
	for name, test := range map[string]struct {
		ask    []string
		answer func(*frames)
		want   []string // by the client
	}{
		"head":         {nil, func(s *frames) { s.headers(1, true, many(":status", "200")...) }, []string{"HEADERS 1" + told, `DATA 1 "the response's header section is over the limit\n" END`}},
		"interim head": {nil, func(s *frames) { s.headers(1, false, many(":status", "103")...) }, []string{"HEADERS 1" + told, `DATA 1 "the response's header section is over the limit\n" END`}},
		"trailers": {nil, func(s *frames) { s.headers(1, false, ":status", "200"); s.headers(1, true, many()...) }, []string{
			"HEADERS 1 :status=200", "RST_STREAM 1 INTERNAL_ERROR",
		}},
		"of a call": {[]string{"content-type", "application/grpc"}, func(s *frames) { s.headers(1, true, many(":status", "200")...) }, []string{
			"HEADERS 1 :status=200 content-type=application/grpc grpc-status=8 grpc-message=the response's header section is over the limit underlane-reason=response-header-too-large END",
		}},
		"for the client": {nil, func(s *frames) { s.headers(1, true, ":status", "200", "x", strings.Repeat("y", 1000)) }, []string{
			"RST_STREAM 1 INTERNAL_ERROR",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBackend(t)
			e := newH2Env(t, b.addr)
			c := dialFrames(t, e.addr, xhttp2.Setting{ID: xhttp2.SettingMaxHeaderListSize, Val: 1000})
			c.headers(1, true, append([]string{":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a"}, test.ask...)...)
			s := serveFrames(b.accept())
			s.next()
			test.answer(s)
			c.want(test.want...)
			if end := e.tap.end(t, 0); end.Reason != mesh.ReasonResponseHeader {
				t.Errorf("got reason %q, want %q: %+v", end.Reason, mesh.ReasonResponseHeader, end)
			}
		})
	}
}
