package http1

import "iter"

// Head is the parsed start line and fields of one message. While a head is incomplete
// it keeps the offsets, so that no byte is parsed twice. The next message reuses its
// memory. The slices that its methods return lie in the buffer that was parsed.
//
// The zero Head is ready to use. It is not safe for concurrent use.
//
// It is made of layers, each of which embeds the one below it and knows none above: message,
// interpreter. Head itself parses the lines (parse.go, target.go).
type Head struct {
	interpreter
	err   error // of an earlier call, returned again
	state headState
	line  int // start of the line that is being received
	scan  int // number of bytes that were already searched for the line's end
}

// interpreter finds out what the fields mean, one by one and all together, and refuses heads
// whose meaning is not clear (fields.go, mend.go).
type interpreter struct{ message }

// message is the part of a message that has been parsed. Its methods give the callers of this
// package the start line, the fields, and what they mean.
type message struct {
	buf   []byte // the message's head, once complete; the caller's buffer while parsing
	start int    // first byte of the message, after an ignored empty line

	response bool
	asked    Kind // response: the Kind of its request
	minor    uint8
	status   int
	method   span
	target   span
	path     span
	authHost span // authority within the target

	fields []field
	facts
}

// facts are the meaning of all fields together.
type facts struct {
	host        span
	hasHost     bool
	length      int64
	hasLength   bool
	lengthText  span
	chunked     bool
	misframed   bool // a response says in two ways where its body ends, or announces one that it cannot have
	loose       bool // a response has errors that are mended when it is forwarded: see mend.go
	close       bool // Connection: close
	keepAlive   bool // Connection: keep-alive
	upgrade     bool // Connection: upgrade
	te          bool // Connection: te
	protocol    span // value of Upgrade
	h2c         bool // Upgrade lists h2c
	grpc        bool
	binds       bool // the message authenticates the connection, or offers to
	teTrailers  bool
	options     uint8 // number of field names that Connection lists
	connection  int   // 1 + index of the first Connection field
	connections int   // number of Connection fields
	dropped     bool  // some field is not forwarded unchanged
	rehost      bool  // Host differs from the target's authority
}

type headState uint8

const (
	inStartLine headState = iota
	inFields
	complete
)

// span is a range of message.buf.
type span struct{ from, to uint16 }

type field struct {
	name, value span
	known       known
	drop        bool // hop-by-hop or redundant: not forwarded
	spaced      bool // has white space before the colon, which is not forwarded
}

func (h *message) at(s span) []byte { return h.buf[s.from:s.to] }

// Reset discards the message, so that another one can be parsed. It is needed only if
// the head is incomplete or was refused.
func (h *Head) Reset() {
	*h = Head{interpreter: interpreter{message{fields: h.fields[:0]}}}
}

// Complete reports whether the head has been parsed to its end.
func (h *Head) Complete() bool { return h.state == complete }

// Kind has the properties of a request on which the framing of its response depends,
// and the form of a response from the proxy itself. The zero Kind is an ordinary
// HTTP/1.1 request.
type Kind uint8

const (
	KindHEAD    Kind = 1 << iota // the response has no body
	KindCONNECT                  // a 2xx response opens a tunnel
	KindUpgrade                  // a 101 response opens a tunnel
	KindGRPC                     // errors have gRPC's form
	KindHTTP10                   // the connection persists only with keep-alive; no interim responses
)

// Kind returns the request's Kind, which is needed to read its response.
func (h *message) Kind() Kind {
	var kind Kind
	switch string(h.Method()) {
	case "HEAD":
		kind = KindHEAD
	case "CONNECT":
		kind = KindCONNECT
	}
	if h.upgrades() {
		kind |= KindUpgrade
	}
	if h.grpc {
		kind |= KindGRPC
	}
	if h.minor == 0 {
		kind |= KindHTTP10
	}
	return kind
}

// Bytes is the whole head as it came, once it is complete.
func (h *message) Bytes() []byte { return h.buf }

// Method is a request's method.
func (h *message) Method() []byte { return h.at(h.method) }

// Target is a request's target as it stands in the request line.
func (h *message) Target() []byte { return h.at(h.target) }

// Path is the target's path and query in every form of target: the :path of HTTP/2. It
// is "*" for OPTIONS *, and empty for CONNECT and for an absolute target without a path.
func (h *message) Path() []byte { return h.at(h.path) }

// Authority is the host and port of the request: the target's if it has one (RFC 9112
// §3.2.2), else the value of Host.
func (h *message) Authority() []byte {
	if h.authHost != (span{}) {
		return h.at(h.authHost)
	}
	return h.at(h.host)
}

// Minor is the message's minor HTTP version as received: 0 for HTTP/1.0, 1 for
// HTTP/1.1. A higher one has the meaning of 1 (RFC 9110 §2.5).
func (h *message) Minor() int { return int(h.minor) }

// Status is a response's status code.
func (h *message) Status() int { return h.status }

// Interim reports whether this is a 1xx response after which another response follows.
// It must not be forwarded to an HTTP/1.0 client (RFC 9110 §15.2).
func (h *message) Interim() bool { return h.status/100 == 1 && h.status != 101 }

// Fields yields the names and values in their original order and spelling.
func (h *message) Fields() iter.Seq2[[]byte, []byte] {
	return func(yield func(name, value []byte) bool) {
		for i := range h.fields {
			if !yield(h.at(h.fields[i].name), h.at(h.fields[i].value)) {
				return
			}
		}
	}
}

// Forwarded iterates over the fields that AppendRequestHead forwards in their own spelling: not
// over those of the connection, which Connection may list (RFC 9110 §7.6.1).
func Forwarded(h *Head) iter.Seq2[[]byte, []byte] {
	return func(yield func(name, value []byte) bool) {
		for i := range h.fields {
			if f := &h.fields[i]; !f.drop && !yield(h.at(f.name), h.at(f.value)) {
				return
			}
		}
	}
}

// Get returns the value of the first field with that name, regardless of case. It
// returns nil if there is none; an empty value is not nil.
func (h *message) Get(name string) []byte {
	for i := range h.fields {
		if equalFold(h.at(h.fields[i].name), name) {
			return h.at(h.fields[i].value)
		}
	}
	return nil
}

// KeepAlive reports whether the connection persists after this message according to its
// sender (RFC 9112 §9.3). It is false after a 204 response that announces a body, because
// the body may follow and would be read as the next response, and after a response with
// both Content-Length and Transfer-Encoding (§6.3).
func (h *message) KeepAlive() bool {
	if h.close || h.minor == 0 && !h.keepAlive {
		return false
	}
	if h.misframed && !h.Interim() {
		return false
	}
	if h.response {
		body := h.Body()
		return !body.NeedsClose()
	}
	return true
}

// Upgrade is the protocol that the message asks to switch to, or switches to (RFC 9110
// §7.8). It is nil if there is none, and for h2c: the proxy would not see the requests
// any more.
//
// After such a request the client's bytes belong to the next request or to a tunnel,
// depending on the response.
func (h *message) Upgrade() []byte {
	if !h.upgrades() {
		return nil
	}
	return h.at(h.protocol)
}

func (h *message) upgrades() bool {
	if h.response && h.status != 101 && h.status != 426 {
		return false
	}
	return h.minor > 0 && h.upgrade && h.protocol.from < h.protocol.to && !h.h2c
}

// IsGRPC reports whether the content type is gRPC's: application/grpc, with or without a
// suffix, but not grpc-web.
func (h *message) IsGRPC() bool { return h.grpc }
