package h2

import (
	"github.com/underlane/underlane/pkg/l7proxy/http2"
	"github.com/underlane/underlane/pkg/l7proxy/request"
	"github.com/underlane/underlane/pkg/route"
)

// observe reads a request's trace, and what access logs have of it, into line.
func observe(s *request.Session, head []http2.Field, line *request.Line) {
	fields := request.Observed{Version: "2"}
	for i := range head {
		fields.Add(head[i].Name, head[i].Value)
	}
	s.Observe(&fields, line)
}

// editHead applies the changes of the request's trace to its head, after those of the
// routes.
func (st *base) editHead() {
	var edits route.Edits
	st.exchange.EditHead(&edits.Remove, &edits.Add)
	if !edits.Empty() {
		st.editFields(&edits)
	}
}
