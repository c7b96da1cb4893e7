package request

import (
	"math"
	"math/rand/v2"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/balance"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/retry"
)

// Retries are the attempts of one request that the routes asked for.
type Retries struct{ n int }

// Unlimited stands for a request without a deadline.
const Unlimited = time.Duration(math.MaxInt64)

// Next decides whether a request that failed so is sent again, and after how long.
// left is the time until the request's deadline. The Service's budget is charged.
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

// Begin counts an attempt that Next has allowed.
func (r *Retries) Begin(x *Exchange) {
	r.n++
	x.Retried()
}

// Cause is what a failure without an answer is to the retry policy; false: such a
// request is not sent again. unsent: the endpoint was not connected to.
func Cause(why mesh.Reason, unsent bool) (retry.Cause, bool) {
	switch {
	case why == mesh.ReasonTimeout:
		return retry.TimedOut, true
	case unsent:
		return retry.Unsent, true
	case why == mesh.ReasonUpstreamReset, why == mesh.ReasonAgentDown:
		return retry.Broken, true
	}
	return 0, false
}

// Count is how many attempts were begun.
func (r *Retries) Count() int { return r.n }
