package l7proxy

import (
	"sync"

	"github.com/underlane/underlane/pkg/l7proxy/http2"
)

// h2kept is the memory in which streams keep their requests until an answer
// begins: nearly all need it, for a moment.
type h2kept struct {
	fields []http2.Field
	replay []byte
}

// h2keepReplay bounds the memory that goes from one request to another.
const h2keepReplay = 4 << 10

var kepts = sync.Pool{New: func() any { return new(h2kept) }}

// keepRequest keeps a request's head, and what is to come of its body.
func (st *h2stream) keepRequest(head []http2.Field) {
	st.kept = kepts.Get().(*h2kept)
	st.fields = append(st.kept.fields[:0], head...)
	st.replay = st.kept.replay[:0]
}

// forgetBody gives up a second attempt, the head is kept.
func (st *h2stream) forgetBody() {
	if st.kept != nil && st.replay != nil && cap(st.replay) <= h2keepReplay {
		st.kept.replay = st.replay[:0]
	}
	st.keeping, st.replay = false, nil
}

// forgetRequest forgets the request: it will not be sent (again).
func (st *h2stream) forgetRequest() {
	st.forgetBody()
	if st.kept != nil {
		clear(st.fields) // their strings are free to go
		st.kept.fields = st.fields[:0]
		kepts.Put(st.kept)
	}
	st.kept, st.fields = nil, nil
}
