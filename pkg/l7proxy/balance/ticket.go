package balance

import (
	"time"

	"github.com/underlane/underlane/pkg/monotime"
)

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

// Now is monotime.Now. Pass it as now to the methods of Balancer.
func Now() time.Duration { return monotime.Now() }
