package tracing

// The headers with a trace context.
const (
	traceparent = iota
	tracestate
	b3
	b3TraceID
	b3SpanID
	b3ParentSpanID
	b3Sampled
	b3Flags
	numHeaders
)

var headers = [numHeaders]string{
	traceparent:    "traceparent",
	tracestate:     "tracestate",
	b3:             "b3",
	b3TraceID:      "x-b3-traceid",
	b3SpanID:       "x-b3-spanid",
	b3ParentSpanID: "x-b3-parentspanid",
	b3Sampled:      "x-b3-sampled",
	b3Flags:        "x-b3-flags",
}

var (
	stateHeaders = headers[tracestate : tracestate+1]
	w3cHeaders   = headers[traceparent : tracestate+1]
	b3Headers    = headers[b3 : b3+1]
	multiHeaders = headers[b3TraceID:numHeaders]
)

// maxStates is the largest number of tracestate headers that are read as one.
const maxStates = 4

// Carrier collects the headers of a request that have a trace context. The zero value has
// none. Its strings are those that Add got: they are not used after Begin.
type Carrier struct {
	values [numHeaders]string
	seen   uint16 // bits of the headers that were seen
	twice  uint16 // and of those that were seen more than once
	states [maxStates]string
	count  int // of tracestate headers
	fields int // of the request
	size   int // of their names and values, in bytes
}

// Bounds of a request whose headers may change. Above them there is no trace, because the
// changed head could be over a limit of the next program: that of an agent is 64 KiB and 256
// fields.
const (
	maxFields = 200
	maxSize   = 48 << 10
)

// Add takes a header. The caller adds all headers of the request: Add is cheap for those
// without a trace context.
func (c *Carrier) Add(name, value string) {
	c.fields++
	c.size += len(name) + len(value)
	i := 0
	switch len(name) {
	case 2:
		i = b3
	case 10:
		if i = tracestate; name[1]|0x20 != 'r' {
			i = b3Flags
		}
	case 11:
		if i = traceparent; name[1]|0x20 != 'r' {
			i = b3SpanID
		}
	case 12:
		if i = b3TraceID; name[5]|0x20 == 's' {
			i = b3Sampled
		}
	case 17:
		i = b3ParentSpanID
	default:
		return
	}
	if !sameName(name, headers[i]) {
		return
	}
	bit := uint16(1) << i
	if i == tracestate {
		if c.count < maxStates {
			c.states[c.count] = value
		}
		c.count++
	} else if c.seen&bit != 0 {
		c.twice |= bit
	}
	c.seen |= bit
	c.values[i] = value
}

// sameName compares names of one length. lower is in lower case.
func sameName(name, lower string) bool {
	for i := range len(name) {
		c := name[i]
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// has reports whether any of the headers from first to last was seen.
func (c *Carrier) has(first, last int) bool {
	return c.seen&(1<<(last+1)-1<<first) != 0
}

// single returns the value of a header that may be there once. ok is false if it is there
// several times.
func (c *Carrier) single(i int) (value string, ok bool) { return c.values[i], c.twice>>i&1 == 0 }
