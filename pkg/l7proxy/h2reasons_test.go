package l7proxy

import (
	"fmt"
	"strings"
	"testing"

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
		want := fmt.Sprintf("HEADERS %d :status=%d underlane-reason=%s content-type=text/plain; charset=utf-8 content-length=%d", id, reason.HTTPStatus(), reason, len(reason.Text())+1)
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
