package check

import (
	"time"

	"github.com/underlane/underlane/test/contract/history"
)

// tooSlow is the factor from which on a machine is overloaded: its programs get an eighth
// of the time that they need. With two busy programs per processor beside the lab the factor
// is about 4.
const tooSlow = 8

// recovery is for how long after an overload its consequences may show: what the mesh takes
// for dead because it has not answered for seconds is asked again after 5 s at most.
const recovery = 5 * time.Second

// span is a time.
type span struct{ from, to time.Time }

func (s span) length() time.Duration { return s.to.Sub(s.from) }

// overloads are the times in which the machine was overloaded: those of three measurements
// in a row of which two are above tooSlow.
func overloads(h *history.History) (out []span) {
	const row = 3
	for i := row; i < len(h.Loads); i++ {
		slow := 0
		for _, l := range h.Loads[i-row : i] {
			if l.Factor > tooSlow {
				slow++
			}
		}
		s := span{h.Loads[i-row].At, h.Loads[i].At}
		switch last := len(out) - 1; {
		case slow < 2:
		case last >= 0 && !s.from.After(out[last].to):
			out[last].to = s.to
		default:
			out = append(out, s)
		}
	}
	return out
}

// Overloaded is for how long the machine was overloaded.
func Overloaded(h *history.History) (sum time.Duration) {
	for _, s := range overloads(h) {
		sum += s.length()
	}
	return sum
}

// Untold reports whether a violation tells nothing of the mesh, because the machine was
// overloaded during the attempt or just before it: what the mesh promises of losing and
// hanging holds where its programs get the processor. All else holds always. Who makes the
// overload is not known: one that the mesh makes itself has to be seen from its length.
func Untold(h *history.History, v Violation) bool {
	if v.Invariant != lost && v.Invariant != hung {
		return false
	}
	for _, s := range overloads(h) {
		if v.Attempt.End.After(s.from) && v.Attempt.Start.Before(s.to.Add(recovery)) {
			return true
		}
	}
	return false
}
