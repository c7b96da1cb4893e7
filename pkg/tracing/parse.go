package tracing

// decision is what the caller has decided about a request.
type decision uint8

const (
	undecided decision = iota
	sampled
	refused
)

// form is what a request has in one of the formats.
type form uint8

const (
	absent form = iota
	invalid
	valid
)

// parent is what the headers of a request say.
type parent struct {
	context
	w3c, b3, multi form
	others         [2]context // what b3 and the several headers say each
}

// context is what one of the formats says. With a zero span it has only a decision.
type context struct {
	id       ID
	span     SpanID
	flags    byte // of the W3C format
	decision decision
	debug    bool // B3: sampled, and to be treated as important
	short    bool // B3: the ID was written with 64 bits
}

// parent reads the headers. If several formats are there, the W3C's counts first, then B3
// in one header, then B3 in several.
func (c *Carrier) parent() (p parent) {
	chosen := false
	choose := func(k context, f form) form {
		if f == valid && !chosen {
			p.context, chosen = k, true
		}
		return f
	}
	if c.has(traceparent, tracestate) {
		value, once := c.single(traceparent)
		k, ok := parseTraceparent(value)
		p.w3c = choose(k, formOf(ok && once))
	}
	if c.has(b3, b3) {
		value, once := c.single(b3)
		k, ok := parseB3(value)
		p.b3, p.others[0] = choose(k, formOf(ok && once)), k
	}
	if c.has(b3TraceID, b3Flags) {
		k, ok := c.parseMulti()
		p.multi, p.others[1] = choose(k, formOf(ok)), k
	}
	return p
}

func formOf(ok bool) form {
	if ok {
		return valid
	}
	return invalid
}

// parseTraceparent parses a traceparent (W3C Trace Context §3.2). It takes versions above 00
// for that version, as §4.3 says, and ff for invalid.
func parseTraceparent(s string) (c context, ok bool) {
	const length = len("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	if len(s) < length || s[2] != '-' || s[35] != '-' || s[52] != '-' {
		return c, false
	}
	var version, flags [1]byte
	if !decode(version[:], s[:2]) || version[0] == 0xff || !decode(c.id[:], s[3:35]) ||
		!decode(c.span[:], s[36:52]) || !decode(flags[:], s[53:55]) {
		return context{}, false
	}
	if len(s) > length && (version[0] == 0 || s[length] != '-') {
		return context{}, false
	}
	if c.id == (ID{}) || c.span == (SpanID{}) {
		return context{}, false
	}
	c.flags = flags[0] & (FlagSampled | FlagRandom)
	c.decision = refused
	if c.flags&FlagSampled != 0 {
		c.decision = sampled
	}
	return c, true
}

// parseB3 parses the one header of B3: {trace}-{span}[-{decision}[-{parent}]], or only a
// decision.
func parseB3(s string) (c context, ok bool) {
	if len(s) == 1 {
		return c, c.decide(s)
	}
	ids := 32
	if len(s) >= 17 && s[16] == '-' {
		ids = 16
	}
	if len(s) < ids+1+16 || s[ids] != '-' || !c.setIDs(s[:ids], s[ids+1:ids+17]) {
		return context{}, false
	}
	rest := s[ids+17:]
	if rest == "" {
		return c, true
	}
	if len(rest) < 2 || rest[0] != '-' || !c.decide(rest[1:2]) {
		return context{}, false
	}
	var grandparent SpanID
	if rest = rest[2:]; rest != "" && (len(rest) != 17 || rest[0] != '-' || !decode(grandparent[:], rest[1:])) {
		return context{}, false
	}
	return c, true
}

// decide sets the decision that a B3 header writes as s.
func (c *context) decide(s string) bool {
	switch s {
	case "0":
		c.decision = refused
	case "1":
		c.decision = sampled
	case "d":
		c.decision, c.debug = sampled, true
	default:
		return false
	}
	return true
}

// setIDs sets the IDs as B3 writes them: that of the trace with 16 or 32 digits.
func (c *context) setIDs(id, span string) bool {
	c.short = len(id) == 16
	to := c.id[:]
	if c.short {
		to = c.id[8:]
	}
	return len(id) == 2*len(to) && len(span) == 16 && decode(to, id) && decode(c.span[:], span) &&
		c.id != (ID{}) && c.span != (SpanID{})
}

// parseMulti parses the several headers of B3.
func (c *Carrier) parseMulti() (k context, ok bool) {
	if c.twice>>b3TraceID != 0 {
		return k, false
	}
	has := func(i int) bool { return c.seen>>i&1 != 0 }
	if has(b3TraceID) != has(b3SpanID) || has(b3ParentSpanID) && !has(b3TraceID) {
		return k, false
	}
	if has(b3TraceID) && !k.setIDs(c.values[b3TraceID], c.values[b3SpanID]) {
		return context{}, false
	}
	var grandparent SpanID
	if has(b3ParentSpanID) && (len(c.values[b3ParentSpanID]) != 16 || !decode(grandparent[:], c.values[b3ParentSpanID])) {
		return context{}, false
	}
	if has(b3Sampled) {
		switch v := c.values[b3Sampled]; v {
		case "true": // as tracers wrote before there was a specification
			k.decision = sampled
		case "false":
			k.decision = refused
		default:
			if v == "d" || !k.decide(v) {
				return context{}, false
			}
		}
	}
	if has(b3Flags) {
		switch c.values[b3Flags] {
		case "1":
			k.decision, k.debug = sampled, true
		case "0":
		default:
			return context{}, false
		}
	}
	return k, true
}

// decode decodes lower-case hexadecimal digits, twice as many as dst has bytes. Upper-case
// digits are invalid in both formats.
func decode(dst []byte, s string) bool {
	for i := range dst {
		high, ok1 := digit(s[2*i])
		low, ok2 := digit(s[2*i+1])
		if !ok1 || !ok2 {
			return false
		}
		dst[i] = high<<4 | low
	}
	return true
}

func digit(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	}
	return 0, false
}
