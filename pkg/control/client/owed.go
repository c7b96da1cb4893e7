package client

import (
	"time"

	pb "github.com/underlane/underlane/api/control/v1"
)

// mostOwed bounds how late an answer is, whatever the controller allows.
const mostOwed = 10 * time.Second

// owed is the answer to deltas that were applied and need no answer at once. The next request
// has it, or one that is sent when due receives.
type owed struct {
	answer *pb.Answer // nil: there is none
	due    <-chan time.Time
	timer  *time.Timer // runs while there is an answer that may come late
}

func newOwed() *owed { return &owed{} }

// add takes the answer to a delta, which is also the answer to those before it, and reports
// whether it may wait. An error may not.
func (o *owed) add(answer *pb.Answer, withinMs uint32) (later bool) {
	o.answer = answer
	if withinMs == 0 || answer.GetError() != "" {
		return false
	}
	if o.due == nil {
		within := min(time.Duration(withinMs)*time.Millisecond, mostOwed)
		if o.timer == nil {
			o.timer = time.NewTimer(within)
		} else {
			o.timer.Reset(within)
		}
		o.due = o.timer.C
	}
	return true
}

// take returns the answer to send with a request, nil for none.
func (o *owed) take() *pb.Answer {
	answer := o.answer
	o.answer = nil
	o.stop()
	return answer
}

func (o *owed) stop() {
	if o.timer != nil {
		o.timer.Stop()
	}
	o.due = nil
}
