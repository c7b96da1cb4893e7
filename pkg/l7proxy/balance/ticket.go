package balance

import "time"

// Ticket is a request, or a connection, given to an endpoint: Pick gives it out
// and Done takes it back. The zero value is none.
type Ticket struct {
	Endpoint *Endpoint
	Began    time.Duration // when it was picked
	trial    bool          // whether the endpoint is to be back depends on it
}

// Result is what a request tells about its endpoint.
type Result uint8

const (
	Unknown     Result = iota // nothing, as where the client went away
	Success                   // an answer in order
	Failure                   // an answer, or an end, that tells of a failure: 5xx, a reset
	Unreachable               // no application was reached: no connection, the node's agent is away, silence
)

// Outcome is how a request ended.
type Outcome struct {
	// Latency from when the request went to the endpoint to the response's head;
	// below zero: there was none.
	Latency time.Duration
	Result  Result
}

// started lies a second back, so that every Now is above zero.
var started = time.Now().Add(-time.Second)

// Now is the time since the process started, by the monotonic clock: what the
// methods of Balancer call now.
func Now() time.Duration { return time.Since(started) }
