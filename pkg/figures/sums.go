package figures

import (
	"slices"
	"time"

	"github.com/underlane/underlane/pkg/histogram"
	"github.com/underlane/underlane/pkg/mesh"
)

// Part is a part of the time of a call.
type Part int

// The parts of a call. They add up to its duration.
const (
	Queue     Part = iota // waiting in the proxy
	Connect               // TCP connection to the endpoint
	TLS                   // handshake
	FirstByte             // from the sent request to the head of the response
	Body                  // of request and response

	NumParts
)

// Failure counts requests that failed for one reason.
type Failure struct {
	// Reason is ReasonNone for failures that the application itself answered: HTTP 5xx,
	// and the gRPC codes of tap.GRPCFailure.
	Reason mesh.Reason
	Count  uint64
}

// Sums is what happened between two workloads in some time. The zero value is nothing.
type Sums struct {
	Success  uint64               // requests that succeeded
	Failures []Failure            // requests that failed, ascending by Reason, none with Count 0
	Retries  uint64               // attempts after the first that a route asked for
	Latency  *histogram.Histogram // from the request's head to the response's head; nil: no request
	// Parts are the sums of the parts of all requests. Requests that end before they have
	// reached a server count too.
	Parts [NumParts]time.Duration

	Opened, Closed uint64        // TCP connections
	Failed         uint64        // attempts at a TCP connection that were not successful
	Open           uint64        // TCP connections that are open at the end of the time
	Read, Written  uint64        // bytes, read from the source and written to it
	SRTT           time.Duration // sum of smoothed round-trip times: of connections when they close, and now and then while they carry something
	MinRTT         time.Duration // sum of the lowest round-trip times, of the same connections; 0: not known
	SRTTs          uint64        // times that are in SRTT and MinRTT
	Retransmits    uint64        // segments

	Denied  uint64 // requests and connections that the server's policy refused
	Audited uint64 // and that it let in, to be reported; only the server's agent knows
}

// Requests returns the number of requests that ended.
func (s *Sums) Requests() uint64 { return s.Success + s.FailedRequests() }

// FailedRequests returns the number of requests that failed, for any reason.
func (s *Sums) FailedRequests() (n uint64) {
	for _, f := range s.Failures {
		n += f.Count
	}
	return n
}

// Fail counts n requests that failed.
func (s *Sums) Fail(reason mesh.Reason, n uint64) {
	i, found := slices.BinarySearchFunc(s.Failures, reason, func(f Failure, r mesh.Reason) int { return int(f.Reason) - int(r) })
	switch {
	case n == 0:
	case found:
		s.Failures[i].Count += n
	default:
		s.Failures = slices.Insert(s.Failures, i, Failure{reason, n})
	}
}

// Add adds what happened in the same time between other workloads, or between the same
// ones as another agent has counted it.
func (s *Sums) Add(o *Sums) {
	s.after(o)
	s.Open += o.Open
}

// Then adds what happened between the same workloads in the time that follows.
func (s *Sums) Then(o *Sums) {
	s.after(o)
	s.Open = o.Open
}

func (s *Sums) after(o *Sums) {
	s.Success += o.Success
	for _, f := range o.Failures {
		s.Fail(f.Reason, f.Count)
	}
	s.Retries += o.Retries
	if o.Latency != nil {
		s.latency().Merge(o.Latency)
	}
	for i := range s.Parts {
		s.Parts[i] += o.Parts[i]
	}
	s.Opened += o.Opened
	s.Closed += o.Closed
	s.Failed += o.Failed
	s.Read += o.Read
	s.Written += o.Written
	s.SRTT += o.SRTT
	s.MinRTT += o.MinRTT
	s.SRTTs += o.SRTTs
	s.Retransmits += o.Retransmits
	s.Denied += o.Denied
	s.Audited += o.Audited
}

func (s *Sums) latency() *histogram.Histogram {
	if s.Latency == nil {
		s.Latency = new(histogram.Histogram)
	}
	return s.Latency
}
