package http1

import "math"

// BodyKind is how a message's body is delimited (RFC 9112 §6.3).
type BodyKind uint8

const (
	BodyNone BodyKind = iota
	BodyLength
	BodyChunked
	BodyUntilClose // response: all bytes until the connection ends
	BodyTunnel     // no more messages: after 101, or 2xx to CONNECT
)

// Body finds the end of one message body in the bytes that follow its head.
type Body struct {
	kind    BodyKind
	done    bool
	lax     bool  // a response's: white space may follow a chunk's size
	err     error // of an earlier call, returned again
	offset  int64 // bytes consumed
	payload int64
	charged int64 // see Framing
	left    int64 // bytes that are still missing from the body or from the chunk
	chunks  chunks
	// trailers has the trailer section as far as it was consumed; nil: it is not kept.
	trailers *[]byte
}

// Body returns the framing of the message's body. The head must be complete. In a
// tunnel the client's bytes follow the request's own body, if it has one.
func (h *message) Body() Body {
	kind := BodyNone
	switch {
	case h.response && (h.status == 101 || h.tunnels()):
		kind = BodyTunnel
	case h.response && (h.asked&KindHEAD != 0 || h.status/100 == 1 || h.status == 204 || h.status == 304):
	case h.chunked:
		kind = BodyChunked
	case h.hasLength && h.length > 0:
		kind = BodyLength
	case h.response && !h.hasLength:
		kind = BodyUntilClose
	}
	return Body{kind: kind, done: kind == BodyNone, lax: h.response, left: h.length}
}

// Kind is how the body is delimited.
func (b *Body) Kind() BodyKind { return b.kind }

// Done reports whether the whole body has been consumed.
func (b *Body) Done() bool { return b.done }

// Payload is the number of content bytes consumed, without chunk framing and trailers.
func (b *Body) Payload() int64 { return b.payload }

// Framing returns what the chunks that were consumed since the last call cost beyond what
// they carry, in bytes: their framing less twice their content. It is negative for chunks
// that carry something, and 0 for a body without chunks.
func (b *Body) Framing() int {
	if b.kind != BodyChunked {
		return 0
	}
	all := b.offset - 3*b.payload // b.offset has framing and content
	n := all - b.charged
	b.charged = all
	return int(n)
}

// NeedsClose reports a body that ends with the connection, so that neither side's
// connection can be reused.
func (b *Body) NeedsClose() bool { return b.kind == BodyUntilClose || b.kind == BodyTunnel }

// Next returns how many bytes at the start of buf belong to the message. Forward them
// unchanged: they include chunk framing and trailers. All of buf is consumed unless the
// message ends within it. With an error, consumed counts the bytes before it; later
// calls return the same error.
func (b *Body) Next(buf []byte) (consumed int, done bool, err error) {
	if b.err != nil || b.done {
		return 0, b.done, b.err
	}
	switch b.kind {
	case BodyLength:
		consumed = b.take(buf)
		b.done = b.left == 0
	case BodyChunked:
		consumed, b.err = b.nextChunked(buf)
	default:
		b.left = math.MaxInt64
		consumed = b.take(buf)
	}
	b.offset += int64(consumed)
	return consumed, b.done, b.err
}

// take consumes content.
func (b *Body) take(buf []byte) int {
	n := int(min(int64(len(buf)), b.left))
	b.left -= int64(n)
	b.payload += int64(n)
	return n
}

// Finish must be called when the sender's bytes end. It returns ErrTruncated if the body
// is incomplete.
func (b *Body) Finish() error {
	if b.NeedsClose() {
		b.done = true
	}
	if b.err == nil && !b.done {
		b.err = ErrTruncated
	}
	return b.err
}
