package server

import "time"

// answerWithin is how late an agent may answer a delta that is small: others follow before.
const answerWithin = 5 * time.Second

// How many deltas, and bytes of resources in them, an agent may have that it has not answered.
// The next one waits for the answer. An agent that does not read keeps as much in buffers.
const (
	unansweredDeltas = 32
	unansweredBytes  = 16 << 10
)

// lateness says how far behind an agent's answers may be. An answer is to all deltas until then.
type lateness struct {
	can   bool   // the agent understands it
	until uint64 // nonce of the delta that was answered last
	bytes int    // sent since a delta that was answered at its time
}

// answered takes in the answer to a delta, and reports whether it is one. last is the delta
// that was sent last.
func (l *lateness) answered(nonce, last uint64) bool {
	if nonce <= l.until || nonce > last {
		return false
	}
	l.until = nonce
	if nonce == last {
		l.bytes = 0
	}
	return true
}

// may reports whether the answer to a delta may come late. size is that of its resources.
func (l *lateness) may(nonce uint64, size int) bool {
	l.bytes += size
	return l.can && nonce-l.until < unansweredDeltas && l.bytes <= unansweredBytes
}
