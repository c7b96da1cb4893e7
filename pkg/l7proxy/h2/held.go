package h2

import (
	"slices"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/h2conn"
	"github.com/underlane/underlane/pkg/l7proxy/http2"
)

// A gRPC call that fails at once has its status in the head (Trailers-Only), or in
// trailers after a head without messages: so do servers that send their metadata
// early. Where the routes may want the call to be sent again, such a head is held until
// a message, the trailers or the end follow, for what the client has seen of a
// response stands.

// holdTime bounds how long a head is held: a server that streams may send the first
// message much later.
const holdTime = 250 * time.Millisecond

// heldHead is a final response's head that the client has not got yet.
type heldHead struct {
	fields []http2.Field
	status int
	timer  *timer
}

// holdHead holds the head of a response that may turn out to be a failed call's.
func (st *stream) holdHead(ev *http2.Event, status int) bool {
	if !st.grpc || ev.EndStream || st.answered || !st.plan.Policy().RetriesSent() || !st.resendable() {
		return false
	}
	st.held = &heldHead{fields: slices.Clone(ev.Fields), status: status}
	st.held.timer = st.after(holdTime, st.turn, (*stream).releaseHead)
	return true
}

// releaseHead goes on with a head that was held, if there is one.
func (st *stream) releaseHead(b *h2conn.Batch) {
	if h := st.held; h != nil {
		st.dropHead()
		st.finalHead(h.fields, h.status, false, b)
	}
}

// dropHead forgets a head that was held.
func (st *stream) dropHead() {
	if st.held != nil {
		stopTimer(&st.held.timer)
		st.held = nil
	}
}
