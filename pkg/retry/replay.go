package retry

// ReplayLimit is the most bytes of a request's body that are kept for another
// attempt.
const ReplayLimit = 64 << 10

// Replay keeps a copy of the part of a request's body that has been sent. When
// that grows above ReplayLimit, the copy is dropped. The zero Replay is ready for
// use and holds an empty body. It is not safe for concurrent use.
type Replay struct {
	body []byte
	lost bool
}

// UseBuffer gives r memory to keep the body in. Reset returns it. The length of buf
// does not matter. Without a call of UseBuffer, r allocates memory with the first
// byte.
func (r *Replay) UseBuffer(buf []byte) { r.body = buf[:0] }

// Keep copies p, which is about to be sent, and reports whether the body is
// still complete. Once it has grown above ReplayLimit, it stays lost.
func (r *Replay) Keep(p []byte) bool {
	if r.lost {
		return false
	}
	if len(p) > ReplayLimit-len(r.body) {
		r.lost = true
		return false
	}
	r.body = append(r.body, p...)
	return true
}

// Discard drops the body, so that the request cannot be sent again. It is for a
// request of which something was sent that is not kept, such as trailers, or
// whose response has begun.
func (r *Replay) Discard() { r.lost = true }

// Complete reports whether everything that was sent is kept.
func (r *Replay) Complete() bool { return !r.lost }

// Body returns what was sent so far, or nil if it is lost. It is valid until the
// next Keep.
func (r *Replay) Body() []byte {
	if r.lost {
		return nil
	}
	return r.body
}

// Reset empties r for the next request and returns its memory, so that the caller
// can reuse it. The result is nil if r had none.
func (r *Replay) Reset() []byte {
	buf := r.body
	*r = Replay{}
	return buf
}
