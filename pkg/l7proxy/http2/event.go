package http2

import "golang.org/x/net/http2/hpack"

// Field is one header or trailer field. Sensitive fields (HPACK never-indexed)
// stay so when they are written again.
type Field = hpack.HeaderField

// EventKind is what an Event reports.
type EventKind uint8

const (
	// EventHeaders: a complete, valid field section. In the server role the
	// first one of a stream opens it. In the client role informational (1xx)
	// responses come before the final one.
	EventHeaders EventKind = iota + 1
	// EventMalformed: a request that must not be processed (RFC 9113 §8.1.1), server
	// role. Answer it, or do not, and then reset the stream with ProtocolError.
	// Fields are as they came, to look at and not to be copied.
	EventMalformed
	// EventData: body bytes. They stay charged to the peer's window until
	// Consume is called for len(Payload) bytes.
	EventData
	// EventReset: the stream is gone. No further event names it.
	EventReset
	// EventGoAway: the peer takes no stream above LastStream. Streams of ours
	// above it follow as EventReset with Retryable set.
	EventGoAway
	// EventWindowOpened: WriteData had to turn Stream away for want of window,
	// and it can go on now; Stream 0 means all that wanted the connection's.
	EventWindowOpened
	// EventSettings: the peer's settings were applied; MaxOpen may have changed.
	EventSettings
	// EventPingAck: the peer answered Ping.
	EventPingAck
)

var eventNames = [...]string{"", "HEADERS", "MALFORMED", "DATA", "RESET", "GOAWAY", "WINDOW", "SETTINGS", "PINGACK"}

func (k EventKind) String() string {
	if int(k) < len(eventNames) {
		return eventNames[k]
	}
	return "UNKNOWN"
}

// Event is one thing that received bytes meant. Fields and Payload are valid
// until the next Feed.
type Event struct {
	Kind   EventKind
	Stream uint32

	Fields   []Field // Headers, Malformed
	Trailers bool    // Headers: the section is a trailer section
	TooLarge bool    // Headers, server role: Fields were cut at the limit and not validated; answer 431. Reset: a response's were over it
	Payload  []byte  // Data
	Reason   string  // Malformed: what is wrong

	EndStream bool // Headers, Data: the peer sends no more on this stream

	Code       ErrCode // Reset, GoAway
	Local      bool    // Reset: the peer broke the protocol and this end reset the stream
	Retryable  bool    // Reset: the peer has not processed the request (RFC 9113 §8.7): it may be sent again
	GoingAway  bool    // Reset: by the peer's GOAWAY, not RST_STREAM: no stream can be opened here any more
	LastStream uint32  // GoAway
}
