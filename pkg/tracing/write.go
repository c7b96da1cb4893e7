package tracing

import (
	"encoding/hex"
	"slices"
	"strings"

	"github.com/underlane/underlane/pkg/mesh"
)

// write sets the changes to the headers, and t.State. The context goes on in the formats in
// which it came, or in the W3C's if there was none. What is invalid is removed. A context of
// a second format that belongs to another trace stays as it is.
func (t *Trace) write(c *Carrier, p *parent) {
	states := c.states[:min(c.count, maxStates)]
	switch {
	case p.w3c == valid:
		t.Remove = append(t.Remove, headers[traceparent])
		t.addTraceparent()
		if c.count > maxStates || !validState(states) {
			t.Remove = append(t.Remove, stateHeaders...)
		} else {
			t.keepState(states)
		}
	case p.w3c == invalid:
		t.Remove = append(t.Remove, w3cHeaders...) // §3.3.1.1: without its traceparent a tracestate has no meaning
	}
	if f := p.b3; f == invalid || f == valid && t.concerns(&p.others[0], p) {
		t.Remove = append(t.Remove, b3Headers...)
		if f == valid {
			t.addB3(&p.others[0])
		}
	}
	if f := p.multi; f == invalid || f == valid && t.concerns(&p.others[1], p) {
		t.Remove = append(t.Remove, multiHeaders...)
		if f == valid {
			t.addMulti(&p.others[1])
		}
	}
	if len(t.Add) == 0 {
		if p.w3c == absent {
			t.Remove = append(t.Remove, headers[traceparent]) // a route may set it
		}
		t.addTraceparent()
	}
}

// concerns reports whether a context in a format of B3 is that of the trace: it has the same
// ID, or it has a decision only, and there is no context of the W3C.
func (t *Trace) concerns(k *context, p *parent) bool {
	if k.span == (SpanID{}) {
		return p.w3c != valid
	}
	return k.id == t.ID
}

// keepState sets t.State to a copy of the tracestate, unless it is too long.
func (t *Trace) keepState(states []string) {
	size := len(states)
	for _, s := range states {
		size += len(s)
	}
	if size <= MaxState+1 {
		t.State = strings.Join(slices.DeleteFunc(slices.Clone(states), func(s string) bool { return s == "" }), ",")
		t.State = strings.Clone(t.State) // Join of one string does not copy it
	}
}

func (t *Trace) add(header int, value string) {
	t.Add = append(t.Add, mesh.HeaderField{Name: headers[header], Value: value})
}

func (t *Trace) addTraceparent() {
	var buf [64]byte
	b := append(buf[:0], "00-"...)
	b = hex.AppendEncode(b, t.ID[:])
	b = append(b, '-')
	b = hex.AppendEncode(b, t.Span[:])
	b = append(b, '-')
	b = hex.AppendEncode(b, []byte{t.Flags})
	t.add(traceparent, string(b))
}

// traceID returns the trace's ID with the length that it had in k.
func (t *Trace) traceID(k *context) string {
	if k.short {
		return hex.EncodeToString(t.ID[8:])
	}
	return hex.EncodeToString(t.ID[:])
}

func (t *Trace) addB3(k *context) {
	decision := "-1"
	if k.debug {
		decision = "-d"
	}
	value := t.traceID(k) + "-" + hex.EncodeToString(t.Span[:]) + decision
	if k.span != (SpanID{}) {
		value += "-" + hex.EncodeToString(k.span[:])
	}
	t.add(b3, value)
}

func (t *Trace) addMulti(k *context) {
	t.add(b3TraceID, t.traceID(k))
	t.add(b3SpanID, hex.EncodeToString(t.Span[:]))
	if k.span != (SpanID{}) {
		t.add(b3ParentSpanID, hex.EncodeToString(k.span[:]))
	}
	if k.debug {
		t.add(b3Flags, "1")
	} else {
		t.add(b3Sampled, "1")
	}
}

// String returns the ID as the formats write it.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// String returns the ID as the formats write it.
func (id SpanID) String() string { return hex.EncodeToString(id[:]) }
