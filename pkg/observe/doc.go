// Package observe reads requests and responses from what the kernel has copied of TCP
// connections (bpf/observe.c): segments in, events out. It has no socket, no clock and no
// goroutine. It is not on the way of the bytes: what it cannot read, it leaves out and
// counts, and whoever sends it garbage is not harmed.
//
// Of a segment only the first bytes are known. Bodies are measured by their lengths and
// sequence numbers. After a gap, the next segment that begins like a message is where it
// goes on.
package observe

import (
	"net/netip"
	"time"
)

// Segment is a part of what one side of a connection has sent.
type Segment struct {
	Pod           uint64 // that is observed
	Flow          uint64 // the connection
	Local, Remote netip.AddrPort
	Server        bool          // the pod has accepted the connection
	Sent          bool          // by the pod
	Time          time.Duration // of any clock that does not go back
	First         uint32        // sequence number of the direction's first byte
	Seq, Length   uint32        // of the payload
	Skipped       uint32        // bytes of the payload before Data
	Data          []byte        // some of the payload; valid during the call
	Tail          []byte        // the payload's last bytes, or nil
	Fin, Reset    bool
}

// Wish is what is needed of a flow from now on. Index 0 is what the pod receives, 1 what it
// sends.
type Wish struct {
	SkipTo [2]uint32 // sequence number; segments that end at it or before are not needed
	Skip   [2]bool   // SkipTo is set
	Off    bool      // nothing is needed
}

// Kind is what an event reports.
type Kind uint8

const (
	Began    Kind = iota + 1 // the head of a request
	Answered                 // the head of its response
	Ended                    // the response has ended, or never will
)

// Request is a request and its response, as far as they have got.
type Request struct {
	ID            uint64 // of this Watcher
	Pod           uint64
	Local, Remote netip.AddrPort
	Server        bool // the pod has accepted the connection

	Method, Authority, Path string
	Status                  int
	RequestBytes            uint64 // of the body
	ResponseBytes           uint64 // of the body; with the framing of chunks where they are not all known
	Began, Answered, Ended  time.Duration
	Reset                   bool // the connection has ended within the response or before
}

// Sink takes events. It must not keep r.
type Sink func(kind Kind, r *Request)

// Counts say what was not read.
type Counts struct {
	Gaps    uint64 // parts of streams that were missed where a message's head may have been
	Opaque  uint64 // flows of no protocol that is read
	Refused uint64 // flows, and heads, over a limit
	Dropped uint64 // requests whose response was missed
	Flows   int    // that are followed
	Bytes   int    // that are kept
}
