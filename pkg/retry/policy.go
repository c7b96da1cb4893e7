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
	// Unsent: the server has not seen the request or says that it has not begun
	// to process it: no connection, REFUSED_STREAM, or a stream above GOAWAY's
	// last one.
	Unsent
	// Broken: the connection or stream ended before the response began.
	Broken
	// TimedOut: the attempt took longer than RouteTimeouts.BackendRequest.
	TimedOut
)

// Attempt is a failed attempt to send a request.
type Attempt struct {
	Cause      Cause
	Status     int // with Cause Status: the response's status
	GRPC       bool
	GRPCStatus int    // with Cause Status and GRPC: grpc-status of trailers that came without a body
	Method     string // the request's method
	Retries    int    // retries before this attempt; 0 for the first attempt
	// ResponseStarted: a part of the response has been sent to the client.
	ResponseStarted bool
	// BodyKept: all of the request's body that was sent is kept and can be sent again.
	BodyKept bool
}

// Decision says whether to send a failed request again and, if not, why.
type Decision uint8

const (
	Retry         Decision = iota
	NotRetryable           // this failure is final
	NotIdempotent          // the server may have acted on the request
	BodyNotKept            // the body was not kept
	Exhausted              // all attempts that the policy allows were made
)

var decisionNames = [...]string{"retry", "not-retryable", "not-idempotent", "no-body", "exhausted"}

// String returns the decision's label in metrics.
func (d Decision) String() string { return decisionNames[d] }

// Policy is a compiled mesh.RouteRetry. It is immutable.
type Policy struct {
	statuses  [4]uint64 // one bit for each status, from 400 on
	grpc      uint32    // one bit for each code
	attempts  int
	backoff   time.Duration
	anyMethod bool
	unsent    bool // retry only for Cause Unsent
}

// Default is the policy if a route has none: one retry, and only of a request
// that no server has begun to process.
var Default = &Policy{attempts: 1, unsent: true}

// RetriesSent reports whether the policy may retry a request that a server has
// begun to process. If so, the request's body has to be kept.
func (p *Policy) RetriesSent() bool { return !p.unsent && p.attempts > 0 }

// defaultBackoff is used if the route gives no back-off.
const defaultBackoff = 25 * time.Millisecond

// maxAttempts is the most attempts that a route can ask for.
const maxAttempts = 100

// New compiles r. A nil r gives Default. It fails if a field of r is out of its
// range.
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

// gRPC codes that stand for failures without a gRPC status.
const (
	deadlineExceeded = 4
	unavailable      = 14
)

// Decide says whether another attempt may follow a failed one. The caller must
// ask the budget as well.
func (p *Policy) Decide(a *Attempt) Decision {
	switch {
	case a.ResponseStarted:
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
	case !a.BodyKept:
		return BodyNotKept
	case a.Retries >= p.attempts:
		return Exhausted
	}
	return Retry
}

// lists reports whether the policy lists the attempt's code. For a gRPC failure
// without a code it looks for the code that the client would see.
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

// Idempotent reports whether a request with this method may be repeated when it
// is not known whether the server has acted on it (RFC 9110 §9.2.2).
func Idempotent(method string) bool {
	switch method {
	case "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE":
		return true
	}
	return false
}

// Backoff returns the time to wait before retry n, counted from 0. It starts
// with the route's back-off and doubles up to ten times that. Up to half of the
// result is added at random, so that clients that failed together do not retry
// together. random is 64 random bits.
func (p *Policy) Backoff(n int, random uint64) time.Duration {
	if p.unsent {
		return 0 // the retry goes to another endpoint: there is nothing to wait for
	}
	const capped = 4 // 2⁴ > 10
	d := min(p.backoff<<min(n, capped), 10*p.backoff)
	return d + time.Duration(float64(d)/2*(float64(random>>11)/(1<<53)))
}
