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
