package h2

import (
	"github.com/underlane/underlane/pkg/l7proxy/h2conn"
	"github.com/underlane/underlane/pkg/l7proxy/http1"
	"github.com/underlane/underlane/pkg/l7proxy/request"
	"github.com/underlane/underlane/pkg/policy/authz"
	"github.com/underlane/underlane/pkg/policy/jwt"
	"github.com/underlane/underlane/pkg/route"
)

// asker describes the request of a stream for the policies, until its response begins.
type asker stream

// Asked implements destination.Asker.
func (st *asker) Asked() authz.Request {
	line := requestLine(st.fields)
	out := authz.Request{
		Method: line.Method, Authority: line.Authority, Path: line.Path, Fields: (*headFields)(&st.fields),
	}
	request.Bear(&out, st.token)
	st.check.Tell(&out)
	return out
}

// authenticate judges the tokens of the request, and changes its head. It returns false if it
// has answered the request.
func (st *stream) authenticate(b *h2conn.Batch) bool {
	tokens, answer := st.client.s.Tokens(&st.exchange, (*asker)(st))
	var j jwt.Judgement
	if tokens != nil {
		j, answer = st.client.s.Authenticate(tokens, jwt.Head{Path: fieldValue(st.fields, ":path"), Fields: (*headFields)(&st.fields)})
	}
	if answer.Status != 0 {
		st.answer(&answer, b)
		st.mayConnectAgain(answer.Reason)
		return false
	}
	st.token = j.Token
	if j.Target != "" {
		st.setField(":path", j.Target)
	}
	if edits := (route.Edits{Remove: j.Remove, Add: j.Add}); !edits.Empty() {
		st.replaceFields(&edits)
	}
	return true
}

// Next implements authz.Fields.
func (f *headFields) Next(name string, from int) (value string, next int, ok bool) {
	for i := from; i < len(*f); i++ {
		if (*f)[i].Name == name {
			return (*f)[i].Value, i + 1, true
		}
	}
	return "", 0, false
}

// Alike implements authz.Fields.
func (f *headFields) Alike(name string, from int) (value string, next int, ok bool) {
	for i := from; i < len(*f); i++ {
		if n := (*f)[i].Name; len(n) == len(name) && n != name && http1.Alike(n, name) {
			return (*f)[i].Value, i + 1, true
		}
	}
	return "", 0, false
}
