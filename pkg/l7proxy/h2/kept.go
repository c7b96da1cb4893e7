package h2

import (
	"sync"

	"github.com/underlane/underlane/pkg/l7proxy/http2"
)

// memory is the memory in which streams keep their requests until an answer
// begins: nearly all need it, for a moment.
type memory struct {
	fields []http2.Field
	replay []byte
}

// keepReplay bounds the memory that goes from one request to another.
const keepReplay = 4 << 10

var memories = sync.Pool{New: func() any { return new(memory) }}

// keepRequest keeps a request's head, and what is to come of its body.
func (st *stream) keepRequest(head []http2.Field) {
	st.kept = memories.Get().(*memory)
	st.fields = append(st.kept.fields[:0], head...)
	st.replay = st.kept.replay[:0]
}

// forgetBody gives up a second attempt, the head is kept.
func (st *stream) forgetBody() {
	if st.kept != nil && st.replay != nil && cap(st.replay) <= keepReplay {
		st.kept.replay = st.replay[:0]
	}
	st.keeping, st.replay = false, nil
}

// forgetRequest forgets the request: it will not be sent (again).
func (st *stream) forgetRequest() {
	st.forgetBody()
	if st.kept != nil {
		clear(st.fields) // their strings are free to go
		st.kept.fields = st.fields[:0]
		memories.Put(st.kept)
	}
	st.kept, st.fields = nil, nil
}
