package request

import (
	"slices"
	"strings"

	"github.com/underlane/underlane/pkg/l7proxy/http1"
	"github.com/underlane/underlane/pkg/l7proxy/http2"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

// The header fields that readers of tap see are collected when a head arrives, because its
// bytes may be gone when its event is emitted. They are those of the sender, before a
// route changes them. Nothing is collected while no reader asks for fields.

// Head1 keeps the fields of a head of HTTP/1 for the next event.
func (x *headFields) Head1(h *http1.Head) {
	if r := x.collects(); r != nil {
		for name, value := range h.Fields() {
			x.event.Headers = tap.Add(r, x.event.Headers, name, value, false)
		}
	}
}

// Body1 returns the body of a response of HTTP/1, which keeps its trailers if they are asked
// for. Trailers1 takes them.
func (x *headFields) Body1(h *http1.Head) http1.Body {
	body := h.Body()
	if x.session != nil && x.session.Core.Tap.Headers() != nil {
		body.KeepTrailers()
	}
	return body
}

// Trailers1 keeps the trailers of a body of HTTP/1 for the next event.
func (x *headFields) Trailers1(body *http1.Body) {
	if r := x.collects(); r != nil {
		for name, value := range body.Trailers() {
			x.event.Headers = tap.Add(r, x.event.Headers, name, value, false)
		}
	}
}

// Head2 keeps the fields of a head, or of trailers, of HTTP/2 for the next event. What the
// sender has marked as sensitive (RFC 7541 §7.1.3) is redacted.
func (x *headFields) Head2(fields []http2.Field) {
	if r := x.collects(); r != nil {
		for i := range fields {
			f := &fields[i]
			x.event.Headers = tap.Add(r, x.event.Headers, f.Name, f.Value, f.Sensitive)
		}
	}
}

// collects returns how to collect the fields of the next event, or nil if nothing does.
func (x *headFields) collects() *tap.Redaction {
	if x.session == nil {
		return nil // the exchange is a mirrored copy, which is not reported, or has ended
	}
	r := x.session.Core.Tap.Headers()
	if r != nil {
		x.event.Headers = nil
	}
	return r
}

// EditHead adds the changes of the request's trace to those of the routes. It does not
// change the slices' elements.
func (x *headFields) EditHead(remove *[]string, add *[]mesh.HeaderField) {
	t := x.event.Trace
	if t == nil {
		return
	}
	if len(*remove) == 0 && len(*add) == 0 {
		*remove, *add = t.Remove, t.Add
		return
	}
	kept := slices.DeleteFunc(slices.Clone(*add), func(f mesh.HeaderField) bool {
		return slices.ContainsFunc(t.Remove, func(name string) bool { return strings.EqualFold(name, f.Name) })
	})
	*remove = slices.Concat(*remove, t.Remove)
	*add = append(kept, t.Add...)
}
