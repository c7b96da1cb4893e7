package request

import (
	"math"
	"math/rand/v2"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/balance"
	"github.com/underlane/underlane/pkg/l7proxy/upstream"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/retry"
)

// Retries counts the retries of one request.
type Retries struct{ n int }

// NoDeadline is the time left for a request without a deadline.
const NoDeadline = time.Duration(math.MaxInt64)

// Next decides whether a request that has failed is retried, and how long to wait before.
// left is the time until the request's deadline. It takes the retry from the Service's
// budget.
func (r *Retries) Next(s *Session, p *Plan, failure retry.Attempt, left time.Duration) (wait time.Duration, ok bool) {
	policy := p.Policy()
	if !policy.RetriesSent() {
		return 0, false
	}
	failure.Retries = r.n
	if policy.Decide(&failure) != retry.Retry {
		return 0, false
	}
	wait = policy.Backoff(r.n, rand.Uint64())
	if left <= wait {
		return 0, false
	}
	if !p.routing.Budget.Retry(balance.Now()) {
		s.Core.retriesRefused.Add(1)
		return 0, false
	}
	return wait, true
}

// Begin counts a retry that Next has allowed.
func (r *Retries) Begin(x *Exchange) {
	r.n++
	x.Retried()
}

// Cause converts the reason of a failure without a response to a cause for the retry
// policy. It returns false if such a request is not retried. unsent: there was no
// connection to the endpoint.
func Cause(why mesh.Reason, unsent bool) (retry.Cause, bool) {
	switch {
	case why == mesh.ReasonTimeout:
		return retry.TimedOut, true
	case unsent:
		return retry.Unsent, true
	case why == mesh.ReasonUpstreamReset, upstream.Deserted(why):
		return retry.Broken, true
	}
	return 0, false
}

// Count is the number of retries that were begun.
func (r *Retries) Count() int { return r.n }
