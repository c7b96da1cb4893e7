package retry

// ReplayLimit is how much of a request's body is kept for another attempt.
const ReplayLimit = 64 << 10

// Replay is a copy of a request's body, as far as it has been sent, for as long
// as it is small enough. The zero Replay is an empty body that more may follow.
// It is not safe for concurrent use.
type Replay struct {
	body []byte
	lost bool
}

// With gives r memory to keep the body in, which Drop gives back; the length
// of buf does not matter. Without, r allocates its own at the first byte.
func (r *Replay) With(buf []byte) { r.body = buf[:0] }

// Keep copies what is being sent, and reports whether the body is still whole.
// When it grows above ReplayLimit it is lost for good.
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

// Lose forgets the body: the request cannot be sent again, because something
// was sent that is not kept, such as trailers, or because a response has begun.
func (r *Replay) Lose() { r.lost = true }

// Whole reports whether all that was sent is there.
func (r *Replay) Whole() bool { return !r.lost }

// Body is what was sent so far, nil if it is lost. It is valid until the next
// Keep.
func (r *Replay) Body() []byte {
	if r.lost {
		return nil
	}
	return r.body
}

// Drop empties r for the next request and returns its memory, nil if it had
// none, for who keeps buffers.
func (r *Replay) Drop() []byte {
	buf := r.body
	*r = Replay{}
	return buf
}
