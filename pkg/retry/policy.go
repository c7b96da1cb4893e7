package retry

import (
	"fmt"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
)

// Cause is how an attempt failed.
type Cause uint8

const (
	// Status: the server answered, with Attempt.Status or Attempt.GRPCStatus.
	Status Cause = iota
	// Unsent: the server has not seen the request, or says that it has not
	// begun with it: no connection, REFUSED_STREAM, above GOAWAY's last stream.
	Unsent
	// Broken: the connection or stream ended before the response began.
	Broken
	// TimedOut: the attempt took longer than RouteTimeouts.BackendRequest.
	TimedOut
)

// Attempt is a failed attempt at a request.
type Attempt struct {
	Cause      Cause
	Status     int // of Cause Status: the response's
	GRPC       bool
	GRPCStatus int    // of Cause Status and GRPC: of trailers that came without a body
	Method     string // of the request
	Retries    int    // made before this attempt: 0 for the first
	// Answered: a part of the response has gone to the client.
	Answered bool
	// Body: the request's body can be sent again, as far as it was sent.
	Body bool
}

// Decision is what becomes of a failed request.
type Decision uint8

const (
	Retry         Decision = iota
	NotRetryable           // this failure is final
	NotIdempotent          // the server may have acted on the request
	NoBody                 // the body is not there any more
	Exhausted              // as many attempts as the policy has were made
)

var decisionNames = [...]string{"retry", "not-retryable", "not-idempotent", "no-body", "exhausted"}

// String is the decision's label in metrics.
func (d Decision) String() string { return decisionNames[d] }

// Policy is a compiled mesh.RouteRetry. It is immutable.
type Policy struct {
	statuses  [4]uint64 // bit per status from 400
	grpc      uint32    // bit per code
	attempts  int
	backoff   time.Duration
	anyMethod bool
	unsent    bool // only what was not sent
}

// Default is the policy where a route has none: once more, and only what no
// server has begun with.
var Default = &Policy{attempts: 1, unsent: true}

// Resends reports whether more may be sent again than what no server has begun
// with, so that the request has to be kept.
func (p *Policy) Resends() bool { return !p.unsent && p.attempts > 0 }

// defaultBackoff is where the route does not say.
const defaultBackoff = 25 * time.Millisecond

// maxAttempts bounds what a route can ask for.
const maxAttempts = 100

// New compiles r; nil gives Default.
func New(r *mesh.RouteRetry) (*Policy, error) {
	if r == nil {
		return Default, nil
	}
	if r.Attempts < 0 || r.Attempts > maxAttempts {
		return nil, fmt.Errorf("retry: %d attempts: want 0 to %d", r.Attempts, maxAttempts)
	}
	if r.Backoff < 0 {
		return nil, fmt.Errorf("retry: a back-off of %v", r.Backoff)
	}
	p := &Policy{attempts: r.Attempts, backoff: r.Backoff, anyMethod: r.AnyMethod}
	if p.backoff == 0 {
		p.backoff = defaultBackoff
	}
	for _, code := range r.Codes {
		if code < 400 || code > 599 {
			return nil, fmt.Errorf("retry: HTTP status %d: want 400 to 599", code)
		}
		p.statuses[(code-400)/64] |= 1 << ((code - 400) % 64)
	}
	for _, code := range r.GRPCCodes {
		if code < 1 || code > 16 {
			return nil, fmt.Errorf("retry: gRPC status %d: want 1 to 16", code)
		}
		p.grpc |= 1 << code
	}
	return p, nil
}

// gRPC's codes for failures that have none of their own.
const (
	deadlineExceeded = 4
	unavailable      = 14
)

// Decide says whether a failed attempt may be followed by another. The budget
// has its say after that.
func (p *Policy) Decide(a *Attempt) Decision {
	switch {
	case a.Answered:
		return NotRetryable
	case a.Cause == Unsent:
	case p.unsent:
		return NotRetryable
	case a.Cause == Status && !p.lists(a):
		return NotRetryable
	case a.Cause == Status, p.anyMethod, a.GRPC && p.lists(a), !a.GRPC && Idempotent(a.Method):
	default:
		return NotIdempotent
	}
	switch {
	case !a.Body:
		return NoBody
	case a.Retries >= p.attempts:
		return Exhausted
	}
	return Retry
}

// lists reports whether the attempt's code is listed. A gRPC failure without a
// code has the one that its client sees.
func (p *Policy) lists(a *Attempt) bool {
	if !a.GRPC {
		return p.has(a.Status)
	}
	code := a.GRPCStatus
	switch a.Cause {
	case Broken:
		code = unavailable
	case TimedOut:
		code = deadlineExceeded
	}
	return 0 <= code && code <= 16 && p.grpc&(1<<code) != 0 || a.Cause == Status && a.Status != 200 && p.has(a.Status)
}

func (p *Policy) has(status int) bool {
	i := status - 400
	return 0 <= i && i < 200 && p.statuses[i/64]&(1<<(i%64)) != 0
}

// Idempotent reports a method that may be repeated when it is not known
// whether the server has acted on it (RFC 9110 §9.2.2).
func Idempotent(method string) bool {
	switch method {
	case "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE":
		return true
	}
	return false
}

// Backoff is the time to wait before retry n, counted from 0: at least what
// the route says, doubling up to tenfold, and up to half as much again by
// random, any 64 bits, so that clients that failed together do not come back
// together.
func (p *Policy) Backoff(n int, random uint64) time.Duration {
	if p.unsent {
		return 0 // another endpoint, at once
	}
	const capped = 4 // 2⁴ > 10
	d := min(p.backoff<<min(n, capped), 10*p.backoff)
	return d + time.Duration(float64(d)/2*(float64(random>>11)/(1<<53)))
}
