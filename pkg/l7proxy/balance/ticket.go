package balance

import "time"

// Ticket is a request, or a connection, that Pick gave to an endpoint. It ends with
// Done. The zero value is no ticket.
type Ticket struct {
	Endpoint *Endpoint
	Began    time.Duration // when it was picked
	trial    bool          // its result decides whether the endpoint is readmitted
}

// Result is what the end of a request says about its endpoint.
type Result uint8

const (
	Unknown     Result = iota // nothing, for example because the client went away
	Success                   // a successful answer
	Failure                   // a failed answer or no complete one: 5xx, a reset
	Unreachable               // no application was reached: no connection, no agent on the node, no answer at all
)

// Outcome is how a request ended.
type Outcome struct {
	// Latency is the time from sending the request to the response's head; negative if
	// there was no response.
	Latency time.Duration
	Result  Result
}

// started is a second in the past, so that Now is always above zero.
var started = time.Now().Add(-time.Second)

// Now is the monotonic time since the process started. Pass it as now to the methods of
// Balancer.
func Now() time.Duration { return time.Since(started) }

// At returns what Now has returned at t, a time that has a monotonic reading.
func At(t time.Time) time.Duration { return t.Sub(started) }
