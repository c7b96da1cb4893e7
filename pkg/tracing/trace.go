package tracing

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
)

// ID identifies a trace. The zero ID is not valid.
type ID [16]byte

// SpanID identifies a span of a trace. The zero SpanID is not valid.
type SpanID [8]byte

// Flags of the W3C format that are passed on (§3.2.2.5; Random is of level 2). All others
// must be cleared.
const (
	FlagSampled = 1 << 0
	FlagRandom  = 1 << 1 // the low 7 bytes of the ID are random
)

// MaxState is the largest tracestate, in bytes, that a Trace has.
const MaxState = 512

// Trace is the place of one request in its trace. Only requests that are sampled have one.
// It does not change once it is made, except for Attempts.
type Trace struct {
	ID ID
	// Span is the span that the forwarded headers name: the one of the agent's spans that
	// is next to the server.
	Span SpanID
	// Client is the span of the client's side, if the agent is next to client and server:
	// Span is that of the server's side then. The agent knows which is the case when the
	// request has reached its endpoint, and that is after the headers were written.
	Client SpanID
	Parent SpanID // of the span that called; zero: the trace begins here
	Flags  byte   // of the W3C format
	State  string // tracestate as it came; "" also if it is longer than MaxState

	// Remove and Add are the changes to the headers of the forwarded request. Names are in
	// lower case. Remove has those of Add as well. They are shared: do not modify them.
	Remove []string
	Add    []mesh.HeaderField

	// Attempts are those of a request that was sent more than once, in their order, with the
	// last one. They are complete when the request has ended: only then may others than the
	// request's own goroutine read them. nil: there was one attempt.
	Attempts []Attempt
}

// MaxAttempts bounds Trace.Attempts. The last attempt is always in it.
const MaxAttempts = 16

// Attempt is one attempt to send a request.
type Attempt struct {
	Number     int            // from 0
	Endpoint   netip.AddrPort // invalid: none was chosen
	Began      time.Duration  // since the request began
	Ended      time.Duration
	Status     int         // HTTP status of the response; 0: there was none
	GRPCStatus int         // status of a gRPC call; -1: none, or no call of gRPC
	Reason     mesh.Reason // why there was no response, or why the peer's agent made one
}

// Attempted adds an attempt. It sets the number, and lets it begin after the one before.
func (t *Trace) Attempted(a Attempt) {
	if n := len(t.Attempts); n > 0 {
		a.Number = t.Attempts[n-1].Number + 1
		a.Began = max(a.Began, t.Attempts[n-1].Ended)
		if n == MaxAttempts {
			t.Attempts[n-1] = a
			return
		}
	}
	t.Attempts = append(t.Attempts, a)
}

// Begin returns the trace of a request with the headers of c, or nil if the request is not
// sampled: its headers are then forwarded as they are. begins reports whether a trace may
// begin here: it must not if another agent has decided already. Begin allocates nothing if
// it returns nil.
func Begin(c *Carrier, sampling mesh.TraceSampling, begins bool) *Trace {
	if sampling.Off || c.fields > maxFields || c.size > maxSize {
		return nil
	}
	if c.seen == 0 {
		if begins && draw(sampling.PerMillion) {
			return newTrace(c, parent{})
		}
		return nil
	}
	p := c.parent()
	switch {
	case p.decision == refused:
		return nil
	case p.decision == undecided && !(begins && draw(sampling.PerMillion)):
		return nil
	}
	return newTrace(c, p)
}

func draw(perMillion uint32) bool {
	return perMillion > 0 && rand.Uint32N(1_000_000) < perMillion
}

func newTrace(c *Carrier, p parent) *Trace {
	t := &Trace{ID: p.id, Parent: p.span, Flags: p.flags | FlagSampled, Span: newSpanID(), Client: newSpanID()}
	if p.span == (SpanID{}) {
		t.ID = newID()
	}
	t.write(c, &p)
	return t
}

func newID() (id ID) {
	for id == (ID{}) {
		binary.BigEndian.PutUint64(id[:8], rand.Uint64())
		binary.BigEndian.PutUint64(id[8:], rand.Uint64())
	}
	return id
}

func newSpanID() (id SpanID) {
	for id == (SpanID{}) {
		binary.BigEndian.PutUint64(id[:], rand.Uint64())
	}
	return id
}
