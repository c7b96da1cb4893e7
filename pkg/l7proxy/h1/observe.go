package h1

import (
	"github.com/underlane/underlane/pkg/l7proxy/http1"
	"github.com/underlane/underlane/pkg/l7proxy/request"
)

// observe reads the request's trace, and what access logs have of it, into line.
func (d *messages) observe(line *request.Line) {
	fields := request.Observed{Version: "1.1"}
	if d.req.Kind()&http1.KindHTTP10 != 0 {
		fields.Version = "1.0"
	}
	for name, value := range d.req.Fields() {
		fields.Add(unsafeString(name), unsafeString(value))
	}
	d.s.Observe(&fields, line)
}
