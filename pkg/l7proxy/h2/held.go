package h2

import (
	"slices"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/h2conn"
	"github.com/underlane/underlane/pkg/l7proxy/http2"
)

// A gRPC call that fails at once has its status in the head (Trailers-Only), or in trailers
// after a head without messages, if the server sends its metadata early. A call cannot be
// sent again once the client has a part of the response. So if the routes may ask for a
// retry, the head is held until a message, the trailers or the end follow.

// holdTime is the longest time that a head is held. A streaming server may send the first
// message much later.
const holdTime = 250 * time.Millisecond

// heldHead is the head of a final response that was not sent to the client yet.
type heldHead struct {
	fields []http2.Field
	status int
	timer  *timer
}

// holdHead holds the head of a response if the call may fail and be sent again. It returns
// false if the head is to be forwarded now.
func (st *attempts) holdHead(ev *http2.Event, status int) bool {
	if !st.grpc || ev.EndStream || st.answered || !st.plan.Policy().RetriesSent() || !st.resendable() {
		return false
	}
	st.held = &heldHead{fields: slices.Clone(ev.Fields), status: status}
	st.held.timer = st.after(holdTime, st.turn, (*stream).releaseHead)
	return true
}

// releaseHead processes a head that was held, if there is one.
func (st *stream) releaseHead(b *h2conn.Batch) {
	if h := st.held; h != nil {
		st.dropHead()
		st.finalHead(h.fields, h.status, false, b)
	}
}

// dropHead discards a head that was held, if there is one.
func (st *base) dropHead() {
	if st.held != nil {
		stopTimer(&st.held.timer)
		st.held = nil
	}
}
