package retry

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
)

func policy(t testing.TB, r *mesh.RouteRetry) *Policy {
	t.Helper()
	p, err := New(r)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestDecide(t *testing.T) {
	some := policy(t, &mesh.RouteRetry{Codes: []uint16{500, 503, 429}, GRPCCodes: []uint8{14}, Attempts: 2})
	any := policy(t, &mesh.RouteRetry{Attempts: 2, AnyMethod: true})
	for name, tc := range map[string]struct {
		policy  *Policy
		attempt Attempt
		want    Decision
	}{
		"listed status":             {some, Attempt{Status: 503, Method: "GET", BodyKept: true}, Retry},
		"listed status below 500":   {some, Attempt{Status: 429, Method: "GET", BodyKept: true}, Retry},
		"listed status of a POST":   {some, Attempt{Status: 500, Method: "POST", BodyKept: true}, Retry},
		"other status":              {some, Attempt{Status: 502, Method: "GET", BodyKept: true}, NotRetryable},
		"no status at all":          {some, Attempt{Status: 0, Method: "GET", BodyKept: true}, NotRetryable},
		"a status out of range":     {some, Attempt{Status: 999, Method: "GET", BodyKept: true}, NotRetryable},
		"second retry":              {some, Attempt{Status: 503, Method: "GET", BodyKept: true, Retries: 1}, Retry},
		"third retry":               {some, Attempt{Status: 503, Method: "GET", BodyKept: true, Retries: 2}, Exhausted},
		"body gone":                 {some, Attempt{Status: 503, Method: "PUT"}, BodyNotKept},
		"answered":                  {some, Attempt{Status: 503, Method: "GET", BodyKept: true, ResponseStarted: true}, NotRetryable},
		"reset of a GET":            {some, Attempt{Cause: Broken, Method: "GET", BodyKept: true}, Retry},
		"reset of a POST":           {some, Attempt{Cause: Broken, Method: "POST", BodyKept: true}, NotIdempotent},
		"reset of a POST, any":      {any, Attempt{Cause: Broken, Method: "POST", BodyKept: true}, Retry},
		"timeout of a PUT":          {some, Attempt{Cause: TimedOut, Method: "PUT", BodyKept: true}, Retry},
		"timeout of a PATCH":        {some, Attempt{Cause: TimedOut, Method: "PATCH", BodyKept: true}, NotIdempotent},
		"unsent POST":               {some, Attempt{Cause: Unsent, Method: "POST", BodyKept: true}, Retry},
		"unsent, body gone":         {some, Attempt{Cause: Unsent, Method: "POST"}, BodyNotKept},
		"gRPC listed":               {some, Attempt{GRPC: true, Status: 200, GRPCStatus: 14, Method: "POST", BodyKept: true}, Retry},
		"gRPC other":                {some, Attempt{GRPC: true, Status: 200, GRPCStatus: 13, Method: "POST", BodyKept: true}, NotRetryable},
		"gRPC nonsense":             {some, Attempt{GRPC: true, Status: 200, GRPCStatus: -1, Method: "POST", BodyKept: true}, NotRetryable},
		"gRPC nonsense, high":       {some, Attempt{GRPC: true, Status: 200, GRPCStatus: 46, Method: "POST", BodyKept: true}, NotRetryable},
		"gRPC behind an HTTP 503":   {some, Attempt{GRPC: true, Status: 503, GRPCStatus: -1, Method: "POST", BodyKept: true}, Retry},
		"gRPC reset, 14 listed":     {some, Attempt{GRPC: true, Cause: Broken, Method: "POST", BodyKept: true}, Retry},
		"gRPC timeout, 4 unlisted":  {some, Attempt{GRPC: true, Cause: TimedOut, Method: "POST", BodyKept: true}, NotIdempotent},
		"default, status":           {Default, Attempt{Status: 503, Method: "GET", BodyKept: true}, NotRetryable},
		"default, reset":            {Default, Attempt{Cause: Broken, Method: "GET", BodyKept: true}, NotRetryable},
		"default, unsent":           {Default, Attempt{Cause: Unsent, Method: "POST", BodyKept: true}, Retry},
		"default, unsent again":     {Default, Attempt{Cause: Unsent, Method: "POST", BodyKept: true, Retries: 1}, Exhausted},
		"default, unsent, answered": {Default, Attempt{Cause: Unsent, Method: "POST", BodyKept: true, ResponseStarted: true}, NotRetryable},
	} {
		if got := tc.policy.Decide(&tc.attempt); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

// TestEveryCode checks that the bit set of a policy has exactly the listed code.
func TestEveryCode(t *testing.T) {
	for listed := uint16(400); listed < 600; listed++ {
		p := policy(t, &mesh.RouteRetry{Codes: []uint16{listed}, Attempts: 1})
		for status := range 1000 {
			want := NotRetryable
			if status == int(listed) {
				want = Retry
			}
			if got := p.Decide(&Attempt{Status: status, Method: "GET", BodyKept: true}); got != want {
				t.Fatalf("listed %d, status %d: %v, want %v", listed, status, got, want)
			}
		}
	}
}

func TestRefusedPolicies(t *testing.T) {
	for name, r := range map[string]mesh.RouteRetry{
		"attempts below 0":  {Attempts: -1},
		"too many attempts": {Attempts: 101},
		"back-off below 0":  {Backoff: -1},
		"success":           {Codes: []uint16{200}},
		"600":               {Codes: []uint16{600}},
		"gRPC OK":           {GRPCCodes: []uint8{0}},
		"gRPC 17":           {GRPCCodes: []uint8{17}},
	} {
		if _, err := New(&r); err == nil {
			t.Errorf("%s: New(%+v): got no error, want one", name, r)
		}
	}
}

// TestBackoff checks that the back-off is never below the route's, grows up to a
// bound, and is spread at random.
func TestBackoff(t *testing.T) {
	base := 100 * time.Millisecond
	p := policy(t, &mesh.RouteRetry{Attempts: 100, Backoff: base})
	for n, want := range []time.Duration{base, 2 * base, 4 * base, 8 * base, 10 * base, 10 * base} {
		if got := p.Backoff(n, 0); got != want {
			t.Errorf("retry %d waits %v at least, want %v", n, got, want)
		}
		if got := p.Backoff(n, math.MaxUint64); got < want+want/2-1 || got > want+want/2 {
			t.Errorf("retry %d waits %v at most, want %v", n, got, want+want/2)
		}
	}
	for range 10000 {
		if got := p.Backoff(rand.IntN(200), rand.Uint64()); got < base || got > 15*base {
			t.Fatalf("waits %v, want %v to %v", got, base, 15*base)
		}
	}
	if got := Default.Backoff(0, math.MaxUint64); got != 0 {
		t.Errorf("an unsent request waits %v, want 0", got)
	}
}

func TestReplay(t *testing.T) {
	var r Replay
	if !r.Complete() || len(r.Body()) != 0 {
		t.Fatalf("new Replay: Complete() = %v, Body() = %q; want true and empty", r.Complete(), r.Body())
	}
	if !r.Keep([]byte("hello ")) || !r.Keep([]byte("world")) || string(r.Body()) != "hello world" {
		t.Fatalf("kept %q, want %q", r.Body(), "hello world")
	}
	if !r.Keep(make([]byte, ReplayLimit-11)) || len(r.Body()) != ReplayLimit {
		t.Fatalf("kept %d bytes, want a body of %d kept", len(r.Body()), ReplayLimit)
	}
	if r.Keep([]byte{1}) || r.Complete() || r.Body() != nil || r.Keep(nil) {
		t.Fatalf("above the limit: Complete() = %v with %d bytes, want the body lost", r.Complete(), len(r.Body()))
	}
}

func TestReplayKeepsACopy(t *testing.T) {
	var r Replay
	sent := []byte("body")
	r.Keep(sent)
	copy(sent, "XXXX")
	if string(r.Body()) != "body" {
		t.Errorf("after the source changed: Body() = %q, want %q", r.Body(), "body")
	}
}

func BenchmarkDecide(b *testing.B) {
	p := policy(b, &mesh.RouteRetry{Codes: []uint16{500, 503}, Attempts: 2})
	a := Attempt{Cause: Broken, Method: "GET", BodyKept: true}
	for b.Loop() {
		p.Decide(&a)
	}
}
