package http1

// Errors of responses that have one meaning to every client. Without the mesh clients read
// such responses, so they are forwarded, in the form that they should have had. Requests
// with the same errors are refused, because a server may read them in another way.

// unfold joins a line that begins with white space to the field before it (RFC 9112 §5.2).
// It replaces the end of the line before by spaces, in the buffer of the caller. A field with a
// meaning for the proxy is not folded.
func (h *Head) unfold(from, end int) bool {
	value, valueEnd := trimOWS(h.buf, from, end)
	if value == from || len(h.fields) == 0 || h.fields[len(h.fields)-1].known != other ||
		indexNot(h.buf[value:valueEnd], cValue) >= 0 {
		return false
	}
	f := &h.fields[len(h.fields)-1]
	for i := from - 1; h.buf[i] == '\n' || h.buf[i] == '\r'; i-- {
		h.buf[i] = ' '
	}
	if value < valueEnd {
		if f.value.from == f.value.to {
			f.value.from = uint16(value)
		}
		f.value.to = uint16(valueEnd)
	}
	h.loose = true
	return true
}

// onlyElement returns the element of a list all of whose elements are the same, and makes
// it the value of the field.
func (h *interpreter) onlyElement(f *field, list []byte) (element []byte, ok bool) {
	element, rest, ok := nextElement(list)
	for next, more, found := nextElement(rest); found; next, more, found = nextElement(more) {
		ok = ok && equalFold(next, element)
	}
	if !ok {
		return nil, false
	}
	from := int(f.value.from)
	f.value = span{uint16(from), uint16(from + len(element))}
	h.loose = true
	return element, true
}

// oddCoding reads a Transfer-Encoding of a response that is not chunked alone: chunked
// again, which is never applied twice (RFC 9112 §6.1), or identity, which says nothing.
func (h *interpreter) oddCoding(f *field, value []byte) bool {
	coding, ok := h.onlyElement(f, value)
	chunked := ok && equalFold(coding, "chunked")
	if !chunked && !(ok && equalFold(coding, "identity")) {
		return false
	}
	f.drop = h.chunked || !chunked
	h.chunked = h.chunked || chunked
	return true
}

// mendFraming handles a chunked response that has a Content-Length, too: that one is not
// forwarded, and the connection is not used again (RFC 9112 §6.3). In a response of
// HTTP/1.0 some clients read the chunks and others do not, so that it goes on as it is, to
// the end of the connection. It reports whether the framing is clear now.
func (h *interpreter) mendFraming() bool {
	if h.minor == 0 {
		h.chunked, h.misframed = false, true
		return !h.hasLength
	}
	for i := range h.fields {
		if f := &h.fields[i]; f.known == fieldContentLength {
			f.drop, h.dropped, h.misframed = true, true, true
		}
	}
	h.length, h.hasLength = 0, false
	return true
}

// appendMended appends a loose head without its errors.
func appendMended(dst []byte, h *message, e *Edits) []byte {
	mended := make([]byte, 0, len(h.buf)+2*len(h.fields))
	line := h.buf[h.start:]
	for i, c := range line {
		if c == '\r' || c == '\n' {
			line = line[:i]
			break
		}
	}
	mended = append(append(mended, line...), "\r\n"...)
	for i := range h.fields {
		f := &h.fields[i]
		if f.drop && f.known.framing() {
			continue
		}
		mended = append(append(mended, h.at(f.name)...), ": "...)
		mended = appendClean(mended, string(h.at(f.value)), cValue)
		mended = append(mended, "\r\n"...)
	}
	mended = append(mended, "\r\n"...)
	var again Head
	if _, err := again.parse(mended, h.response, h.asked); err != nil || !again.Complete() {
		return append(dst, mended...) // larger than a head may be: the next hop refuses it
	}
	return appendHead(dst, &again.message, e)
}
