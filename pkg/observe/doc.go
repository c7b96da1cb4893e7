// Package observe reads requests and responses from what the kernel has copied of TCP
// connections (bpf/observe.c): segments in, events out. It has no socket, no clock and no
// goroutine. It is not on the way of the bytes: what it cannot read, it leaves out and
// counts, and a sender of garbage is not harmed.
//
// Of a segment only some bytes are known. Bodies are measured by their lengths and sequence
// numbers. After a gap, the next segment that begins like a message of HTTP/1, or like a
// frame of HTTP/2, is where it goes on. What HPACK's table had before is then not known, and
// requests say so (Request.Unknown).
package observe

import (
	"net/netip"
	"time"
)

// Opening says whose a flow is. It comes before the flow's first segment, and may come again.
type Opening struct {
	Pod           uint64 // that is observed
	Local, Remote netip.AddrPort
	Name          netip.AddrPort // what the client has connected to; Remote, if that is the same
	Server        bool           // the pod has accepted the connection; a guess if Joined is set
	Joined        bool           // the flow's beginning is not known
	Path          bool           // the kernel path has it
	First         [2]uint32      // sequence numbers of the first bytes: received, sent
}

// Segment is a part of what one side of a connection has sent.
type Segment struct {
	Flow        uint64        // the connection
	Sent        bool          // by the pod
	Time        time.Duration // of any clock that does not go back
	Seq, Length uint32        // of the payload
	Skipped     uint32        // bytes of the payload before Data
	Data        []byte        // some of the payload; valid during the call
	Tail        []byte        // the payload's last bytes, or nil
	Fin, Reset  bool
	Unwalked    bool // the kernel does not know where the frames of HTTP/2 begin
}

// Wish is what is needed of a flow from now on. Index 0 is what the pod receives, 1 what it
// sends.
type Wish struct {
	SkipTo [2]uint32 // sequence number; segments that end at it or before are not needed
	Frame  [2]uint32 // sequence number where a frame of HTTP/2 begins; what is before is not needed
	Skip   [2]bool   // SkipTo is set
	Framed [2]bool   // Frame is set
	Off    bool      // nothing is needed
}

// Kind is what an event reports.
type Kind uint8

const (
	Began    Kind = iota + 1 // the head of a request
	Answered                 // the head of its response
	Ended                    // the response has ended, or never will
)

// NoGRPCStatus is Request.GRPCStatus if the response has none, or not yet.
const NoGRPCStatus = -1

// Request is a request and its response, as far as they have got.
type Request struct {
	ID   uint64   // of this Watcher
	Flow *Opening // of its connection; it is not changed

	HTTP2                  bool
	GRPC                   bool
	Method, Authority      string
	Path                   string
	Unknown                bool // some of the strings, or Status, are not known: they are empty
	Status                 int
	GRPCStatus             int
	RequestBytes           uint64 // of the body
	ResponseBytes          uint64 // of the body; with the framing of chunks, or padding, where they are not all known
	Began, Answered, Ended time.Duration
	Reset                  bool   // the connection, or the stream, has ended within the response or before
	ResetCode              uint32 // of HTTP/2
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
