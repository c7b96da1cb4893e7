package h2

import (
	"iter"
	"strconv"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/extauth"
	"github.com/underlane/underlane/pkg/l7proxy/h2conn"
	"github.com/underlane/underlane/pkg/l7proxy/http2"
	"github.com/underlane/underlane/pkg/l7proxy/request"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/route"
)

// ask has the external authorizer of st.check asked, when what it is to see of the body is
// here.
func (st *stream) ask(b *h2conn.Batch) {
	most, partial := st.check.Wants()
	body, size := st.req.pending.Bytes, int64(-1)
	if st.req.end {
		size = int64(st.req.length)
	}
	switch {
	case most > 0 && !partial && st.req.length > uint64(most):
		st.collecting = false
		answer := st.check.TooLarge()
		st.answer(&answer, b)
		return
	case most > 0 && size < 0 && (!partial || st.req.length < uint64(most)):
		st.collecting = true // clientData and clientTrailers call again
		return
	}
	st.collecting = false
	st.check.Body(body[:min(len(body), most)], size)
	st.wait()
}

// wait waits for the authorizer's answer. The other streams of the connection go on: another
// goroutine waits, and bytes of the body that arrive meanwhile wait in the pipe.
func (st *stream) wait() {
	c := st.check
	go func() {
		c.Run(time.Time{}) // the timer of the exchange ends the stream
		var b h2conn.Batch
		st.mu.Lock()
		if !st.ended {
			st.checked(&b)
		}
		st.mu.Unlock()
		b.Flush()
	}()
}

// checked goes on with a request about which an authorizer was asked.
func (st *stream) checked(b *h2conn.Batch) {
	c := st.check
	st.exchange.Checked(c, (*asker)(st))
	if answer := c.Reply(); answer.Status != 0 {
		st.answer(&answer, b)
		return
	}
	remove, add := c.Edits()
	if edits := (route.Edits{Remove: remove, Add: add}); !edits.Empty() {
		st.replaceFields(&edits)
	}
	st.forward(b)
}

// Described implements request.Describer.
func (st *asker) Described() extauth.Request {
	line := requestLine(st.fields)
	return extauth.Request{
		ID:     strconv.FormatUint(uint64(st.client.s.ID), 10) + "-" + strconv.FormatUint(uint64(st.id), 10),
		Method: line.Method, Extended: line.Method == "CONNECT" && fieldValue(st.fields, ":protocol") != "",
		Scheme: line.Scheme, Host: line.Authority, Path: line.Path, Protocol: "HTTP/2", Fields: fieldsOf(st.fields),
	}
}

func fieldsOf(all []http2.Field) iter.Seq2[string, string] {
	return func(yield func(name, value string) bool) {
		for i := range all {
			if !yield(all[i].Name, all[i].Value) {
				return
			}
		}
	}
}

// appendChecked adds the fields that the authorizer has for the client to the head of a final
// response. It is valid as editedResponse's is.
func appendChecked(fields []http2.Field, more []mesh.HeaderField, b *h2conn.Batch) []http2.Field {
	if len(more) == 0 {
		return fields
	}
	b.Fields = appendEdited(b.Fields[:0], fields, &route.Edits{Add: more})
	return b.Fields
}

var _ request.Describer = (*asker)(nil)
