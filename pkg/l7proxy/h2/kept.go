package h2

import (
	"sync"

	"github.com/underlane/underlane/pkg/l7proxy/http2"
)

// memory holds a stream's request until its response begins. It is pooled, because nearly
// every stream needs it, and for a short time.
type memory struct {
	fields []http2.Field
	replay []byte
	// unedited are the fields before a route for an EgressNetwork has changed them; nil: none has.
	unedited []http2.Field
}

// keepReplay is the largest replay buffer, in bytes, that goes back to the pool.
const keepReplay = 4 << 10

var memories = sync.Pool{New: func() any { return new(memory) }}

// keepRequest stores a request's head, and begins to store its body.
func (st *base) keepRequest(head []http2.Field) {
	st.kept = memories.Get().(*memory)
	st.fields = append(st.kept.fields[:0], head...)
	st.replay = st.kept.replay[:0]
}

// forgetBody releases the stored body, so that there is no other attempt. The head stays.
func (st *base) forgetBody() {
	if st.kept != nil && st.replay != nil && cap(st.replay) <= keepReplay {
		st.kept.replay = st.replay[:0]
	}
	st.keeping, st.replay = false, nil
	st.req.account()
}

// forgetRequest releases the stored request: it will not be sent again. The head stays while
// policies may look at it.
func (st *base) forgetRequest() {
	st.forgetBody()
	if st.kept != nil && st.keepHead() {
		return
	}
	st.headCharged.Set(0, st.client.s.Quota)
	if st.kept != nil {
		clear(st.fields) // so that their strings can be collected
		st.kept.fields, st.kept.unedited = st.fields[:0], nil
		memories.Put(st.kept)
	}
	st.kept, st.fields = nil, nil
}
