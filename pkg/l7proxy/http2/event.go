package http2

import "golang.org/x/net/http2/hpack"

// Field is one header or trailer field. A Sensitive field (HPACK never-indexed) stays
// sensitive when it is written again.
type Field = hpack.HeaderField

// EventKind says what an Event reports.
type EventKind uint8

const (
	// EventHeaders: a complete, valid field section. In the server role the first one
	// opens the stream. In the client role interim (1xx) responses precede the final one.
	EventHeaders EventKind = iota + 1
	// EventMalformed: a request that must not be processed (RFC 9113 §8.1.1). Server
	// role. Send a response or none, then reset the stream with ProtocolError. Fields
	// are not validated: do not copy them.
	EventMalformed
	// EventData: bytes of a body. They stay charged to the peer's window until Consume is
	// called for len(Payload) bytes.
	EventData
	// EventReset: the stream is closed. No further event concerns it.
	EventReset
	// EventGoAway: the peer does not process streams above LastStream. An EventReset with
	// Retryable set follows for each of our streams above it.
	EventGoAway
	// EventWindowOpened: WriteData did not take all bytes of Stream because of its
	// window, and can continue now. Stream 0 stands for all streams that waited for the
	// connection's window.
	EventWindowOpened
	// EventSettings: the peer's settings were applied. MaxOpen may have changed.
	EventSettings
	// EventPingAck: the peer has answered Ping.
	EventPingAck
)

var eventNames = [...]string{"", "HEADERS", "MALFORMED", "DATA", "RESET", "GOAWAY", "WINDOW", "SETTINGS", "PINGACK"}

func (k EventKind) String() string {
	if int(k) < len(eventNames) {
		return eventNames[k]
	}
	return "UNKNOWN"
}

// Event is one meaning of received bytes. Fields and Payload are valid until the next
// Feed.
type Event struct {
	Kind   EventKind
	Stream uint32

	Fields   []Field // Headers, Malformed
	Trailers bool    // Headers: the section is a trailer section
	TooLarge bool    // Headers, server role: Fields are cut at the limit and not validated, respond with 431. Reset: a response's fields exceeded the limit
	Payload  []byte  // Data
	Reason   string  // Malformed: description of the error

	EndStream bool // Headers, Data: the peer has ended the stream

	Code       ErrCode // Reset, GoAway
	Local      bool    // Reset: the peer violated the protocol and this end reset the stream
	Retryable  bool    // Reset: the peer has not processed the request (RFC 9113 §8.7): it may be sent again
	GoingAway  bool    // Reset: because of the peer's GOAWAY, not RST_STREAM: no further stream can be opened on this connection
	Vain       bool    // Reset, server role: the peer gave up a request whose response had not begun
	LastStream uint32  // GoAway
}
