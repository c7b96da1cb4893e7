package http1

import "iter"

// Head is the parsed start line and fields of one message. It keeps the
// offsets of a head that is still incomplete, so that no byte is parsed twice,
// and is used again for the next message: its memory is reused. The slices
// that its methods return lie in the buffer that was parsed.
//
// The zero Head is ready for use. It is not safe for concurrent use.
type Head struct {
	buf   []byte // the message's head, once complete; the caller's buffer while parsing
	err   error  // sticky
	state headState
	start int // first byte of the message: after an ignored empty line
	line  int // start of the line being received
	scan  int // bytes already searched for the line's end

	response bool
	asked    Kind // response: what the request was
	minor    uint8
	status   int
	method   span
	target   span
	path     span
	authHost span // authority within the target

	fields []field
	facts
}

// facts are what the fields say together.
type facts struct {
	host        span
	hasHost     bool
	length      int64
	hasLength   bool
	lengthText  span
	chunked     bool
	misframed   bool // a response without a body that announces one
	close       bool // Connection: close
	keepAlive   bool // Connection: keep-alive
	upgrade     bool // Connection: upgrade
	protocol    span // value of Upgrade
	h2c         bool // Upgrade lists h2c
	expect100   bool
	grpc        bool
	binds       bool // authenticates the connection, or offers to
	teTrailers  bool
	options     uint8 // field names listed by Connection
	connection  int   // 1 + index of the first Connection field
	connections int   // Connection fields
	plain       bool  // the one Connection field is keep-alive, and can stay as it is
	dropped     bool  // some field is not forwarded as it came
	rehost      bool  // Host differs from the target's authority
}

type headState uint8

const (
	inStartLine headState = iota
	inFields
	complete
)

// span is a part of Head.buf.
type span struct{ from, to uint16 }

type field struct {
	name, value span
	known       known
	drop        bool // hop-by-hop, or redundant: not forwarded
	spaced      bool // white space before the colon: forwarded without it
}

func (h *Head) at(s span) []byte { return h.buf[s.from:s.to] }

// Reset forgets the message, so that the next one can be parsed. It is needed
// only to abandon a head that is incomplete or was refused.
func (h *Head) Reset() { *h = Head{fields: h.fields[:0]} }

// Complete reports whether the head has been parsed to its end.
func (h *Head) Complete() bool { return h.state == complete }

// Kind is what the framing of the response, and a response that the proxy
// gives itself, depend on. The zero Kind is an ordinary HTTP/1.1 request.
type Kind uint8

const (
	KindHEAD    Kind = 1 << iota // no body in the response
	KindCONNECT                  // 2xx opens a tunnel
	KindUpgrade                  // 101 opens a tunnel
	KindGRPC                     // errors are told in gRPC's way
	KindHTTP10                   // persistent only if told so; no interim responses
)

// Kind returns what to remember of a request until its response comes.
func (h *Head) Kind() Kind {
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

// Method of a request.
func (h *Head) Method() []byte { return h.at(h.method) }

// Target of a request as it stands in the request line.
func (h *Head) Target() []byte { return h.at(h.target) }

// Path is the target's path and query, whatever the target's form: what
// HTTP/2 calls :path. It is "*" for OPTIONS *, and empty for CONNECT and for
// an absolute target without a path.
func (h *Head) Path() []byte { return h.at(h.path) }

// Authority is the host and port that the request is for: the target's where
// it has one (RFC 9112 §3.2.2), else the value of Host.
func (h *Head) Authority() []byte {
	if h.authHost != (span{}) {
		return h.at(h.authHost)
	}
	return h.at(h.host)
}

// Minor is the message's minor HTTP version as it came: 0 for HTTP/1.0, 1 for
// HTTP/1.1. A higher one means what 1 does (RFC 9110 §2.5).
func (h *Head) Minor() int { return int(h.minor) }

// Status of a response.
func (h *Head) Status() int { return h.status }

// Interim reports a 1xx response after which another one follows. It must not
// be forwarded to an HTTP/1.0 client (RFC 9110 §15.2).
func (h *Head) Interim() bool { return h.status/100 == 1 && h.status != 101 }

// Fields yields names and values in their original order and spelling.
func (h *Head) Fields() iter.Seq2[[]byte, []byte] {
	return func(yield func(name, value []byte) bool) {
		for i := range h.fields {
			if !yield(h.at(h.fields[i].name), h.at(h.fields[i].value)) {
				return
			}
		}
	}
}

// Get returns the value of the first field of that name in any case, and nil
// if there is none (an empty value is not nil).
func (h *Head) Get(name string) []byte {
	for i := range h.fields {
		if equalFold(h.at(h.fields[i].name), name) {
			return h.at(h.fields[i].value)
		}
	}
	return nil
}

// KeepAlive reports whether the sender of this message lets the connection
// persist after it (RFC 9112 §9.3). After a 204 response that announces a body
// it does not: the body may follow, and be taken for the next response.
func (h *Head) KeepAlive() bool {
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

// Expect100 reports whether the client waits for 100 (Continue) before it
// sends the body (RFC 9110 §10.1.1).
func (h *Head) Expect100() bool { return h.expect100 && h.minor > 0 }

// Upgrade is the protocol that the message wants to switch to, or has
// switched to, and nil if none (RFC 9110 §7.8). h2c is never switched to: the
// proxy would lose sight of the requests.
//
// After such a request the client's bytes belong to a next request, or to a
// tunnel: the response tells.
func (h *Head) Upgrade() []byte {
	if !h.upgrades() {
		return nil
	}
	return h.at(h.protocol)
}

func (h *Head) upgrades() bool {
	if h.response && h.status != 101 && h.status != 426 {
		return false
	}
	return h.minor > 0 && h.upgrade && h.protocol.from < h.protocol.to && !h.h2c
}

// IsGRPC reports a content type of gRPC: application/grpc, bare or with a
// suffix, but not grpc-web.
func (h *Head) IsGRPC() bool { return h.grpc }
