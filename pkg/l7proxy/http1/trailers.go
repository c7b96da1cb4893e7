package http1

import (
	"bytes"
	"iter"
)

// KeepTrailers makes the body keep its trailer section for Trailers, up to MaxTrailers
// bytes. Call it before Next. Only a chunked body has trailers.
func (b *Body) KeepTrailers() {
	if b.kind == BodyChunked {
		b.trailers = new([]byte)
	}
}

// Trailers returns the names and values of the trailer fields (RFC 9112, section 7.1.2) that
// were consumed, in their order, as they were sent, without the white space around values.
// There are none without KeepTrailers. The slices stay valid.
func (b *Body) Trailers() iter.Seq2[[]byte, []byte] {
	return func(yield func(name, value []byte) bool) {
		if b.trailers == nil {
			return
		}
		for line := range bytes.SplitSeq(*b.trailers, []byte("\r\n")) {
			name, value, ok := bytes.Cut(line, []byte(":"))
			if ok && !yield(name, bytes.Trim(value, " \t")) {
				return
			}
		}
	}
}
