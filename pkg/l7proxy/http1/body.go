package http1

import "math"

// BodyKind is how a message's body is delimited (RFC 9112 §6.3).
type BodyKind uint8

const (
	BodyNone BodyKind = iota
	BodyLength
	BodyChunked
	BodyUntilClose // response: all bytes up to the connection's end
	BodyTunnel     // no message follows any more: 101, or 2xx to CONNECT
)

// Body delimits one message body in the bytes that follow its head.
type Body struct {
	kind    BodyKind
	done    bool
	err     error // sticky
	offset  int64 // bytes consumed
	payload int64
	left    int64 // bytes to come of the body or of the chunk
	chunks  chunks
}

// Body returns the framing of the message's body. The head must be complete.
// A tunnel's bytes from the client follow the request's own body, if it had
// one; NewTunnel delimits them.
func (h *Head) Body() Body {
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
	return Body{kind: kind, done: kind == BodyNone, left: h.length}
}

// NewTunnel delimits bytes that are no message: all of them.
func NewTunnel() Body { return Body{kind: BodyTunnel} }

// Kind of the body.
func (b *Body) Kind() BodyKind { return b.kind }

// Done reports whether the whole body has been consumed.
func (b *Body) Done() bool { return b.done }

// Payload is the number of content bytes consumed: without chunk framing and
// trailers.
func (b *Body) Payload() int64 { return b.payload }

// NeedsClose reports a body that only the connection's end delimits, so that
// neither side's connection can be used again.
func (b *Body) NeedsClose() bool { return b.kind == BodyUntilClose || b.kind == BodyTunnel }

// Next says how many of the first bytes of buf belong to the message: they
// can be forwarded as they are, chunk framing and trailers included. All of
// buf is consumed unless the message ends within it. On an error the bytes
// before it are counted as consumed; the error stays.
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

// Finish is called at the end of the sender's bytes. It returns ErrTruncated
// if the body was not complete.
func (b *Body) Finish() error {
	if b.NeedsClose() {
		b.done = true
	}
	if b.err == nil && !b.done {
		b.err = ErrTruncated
	}
	return b.err
}
