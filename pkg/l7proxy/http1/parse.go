package http1

import "bytes"

// ParseRequest parses the request head at the start of buf, which has all bytes since
// the end of the previous message. It returns the head's length, or 0 and no error if
// it needs more bytes: then call it again with the same bytes and more after them (the
// buffer may have moved). A call after a complete head starts the next message.
//
// One empty line before the request is ignored (RFC 9112 §2.2) and included in the
// length.
func ParseRequest(buf []byte, h *Head) (n int, err error) { return h.parse(buf, false, 0) }

// ParseResponse is ParseRequest for a response. asked is the Kind of its request.
func ParseResponse(buf []byte, h *Head, asked Kind) (n int, err error) {
	return h.parse(buf, true, asked)
}

func (h *Head) parse(buf []byte, response bool, asked Kind) (int, error) {
	if h.state == complete || h.scan > len(buf) && h.err == nil {
		h.Reset()
	}
	if h.err != nil {
		return 0, h.err
	}
	h.buf, h.response, h.asked = buf[:min(len(buf), MaxHead)], response, asked
	for h.state != complete {
		end, err := h.nextLine()
		if err == nil && end < 0 {
			h.buf = nil
			return 0, nil
		}
		if err == nil {
			err = h.parseLine(end)
		}
		if err != nil {
			h.buf, h.err = nil, err
			return 0, err
		}
	}
	h.buf = h.buf[:h.line:h.line]
	return h.line, nil
}

// nextLine returns the end of the current line, before its CRLF, or -1 if it has not
// arrived yet. Its last byte is before h.scan. In a response a line may end in LF alone
// (RFC 9112 §2.2), because bare servers that write such lines have clients.
func (h *Head) nextLine() (int, error) {
	i := bytes.IndexByte(h.buf[h.scan:], '\n')
	if i < 0 {
		h.scan = len(h.buf)
		if len(h.buf) == MaxHead {
			return 0, ErrHeaderTooLarge
		}
		return -1, nil
	}
	i += h.scan
	h.scan = i + 1
	switch {
	case i > h.line && h.buf[i-1] == '\r':
		return i - 1, nil
	case !h.response:
		return 0, syntax(i, "a line ends in LF without CR")
	}
	h.loose = true
	return i, nil
}

// parseLine parses the line that ends before end.
func (h *Head) parseLine(end int) error {
	from := h.line
	h.line = h.scan
	switch {
	case h.state == inFields && from == end:
		if err := h.finish(h.line); err != nil {
			return err
		}
		h.state = complete
		return nil
	case h.state == inFields:
		return h.parseField(from, end)
	case from == end && !h.response && h.start == 0:
		h.start = h.line
		return nil
	case h.response:
		h.state = inFields
		return h.parseStatusLine(from, end)
	}
	h.state = inFields
	return h.parseRequestLine(from, end)
}

// parseRequestLine: method SP request-target SP HTTP-version (RFC 9112 §3).
func (h *Head) parseRequestLine(from, end int) error {
	space := bytes.IndexByte(h.buf[from:end], ' ')
	if space <= 0 {
		return syntax(from, "the request line has no method or no target")
	}
	h.method = span{uint16(from), uint16(from + space)}
	if space > MaxMethod {
		return syntax(from, "the method is too long")
	}
	if i := indexNot(h.Method(), cToken); i >= 0 {
		return syntax(from+i, "the method has a byte that is not allowed")
	}
	version := end - len("HTTP/1.1")
	from += space + 1
	if version <= from || h.buf[version-1] != ' ' {
		return syntax(end, "the request line does not end in a space and the HTTP version")
	}
	if err := h.parseVersion(version); err != nil {
		return err
	}
	h.target = span{uint16(from), uint16(version - 1)}
	return h.parseTarget()
}

// parseStatusLine: HTTP-version SP status-code [ SP reason ] (RFC 9112 §4). Many servers
// omit the second space.
func (h *Head) parseStatusLine(from, end int) error {
	const code = len("HTTP/1.1 ")
	line := h.buf[from:end]
	if len(line) < code+3 || line[code-1] != ' ' || len(line) > code+3 && line[code+3] != ' ' {
		return syntax(from, "the status line is not version, code and reason")
	}
	if err := h.parseVersion(from); err != nil {
		return err
	}
	for _, c := range line[code : code+3] {
		if class[c]&cDigit == 0 {
			return syntax(from+code, "the status code is not three digits")
		}
		h.status = h.status*10 + int(c-'0')
	}
	if h.status < 100 {
		return syntax(from+code, "the status code is below 100")
	}
	if i := indexNot(line[code+3:], cValue); i >= 0 {
		return syntax(from+code+3+i, "the reason phrase has a control byte")
	}
	return nil
}

// parseVersion: "HTTP/1." DIGIT (RFC 9112 §2.3). An unknown minor version is read as the
// highest known one, HTTP/1.1 (RFC 9110 §2.5).
func (h *Head) parseVersion(at int) error {
	const major = "HTTP/1."
	minor := h.buf[at+len(major)]
	if string(h.buf[at:at+len(major)]) != major || class[minor]&cDigit == 0 {
		return syntax(at, "the version is not HTTP/1.1 or HTTP/1.0")
	}
	h.minor = minor - '0'
	return nil
}

// usualFields is room for the fields of most heads: 96 bytes.
const usualFields = 8

// parseField: field-name ":" OWS field-value OWS (RFC 9112 §5). White space before the
// colon is refused in a request; in a response it is accepted and not forwarded (§5.1).
func (h *Head) parseField(from, end int) error {
	if len(h.fields) == MaxFields {
		return ErrHeaderTooLarge
	}
	line := h.buf[from:end]
	length := indexNot(line, cToken)
	if length < 0 {
		return syntax(end, "a field line has no colon")
	}
	colon := length
	if length == 0 || line[length] != ':' {
		var err error
		if length == 0 && h.response && h.unfold(from, end) {
			return nil
		}
		if colon, err = h.oddColon(line, from, length); err != nil {
			return err
		}
	}
	value, valueEnd := trimOWS(h.buf, from+colon+1, end)
	if i := indexControl(h.buf[value:valueEnd]); i >= 0 {
		return syntax(value+i, "a field value has a control byte")
	}
	f := field{
		name:  span{uint16(from), uint16(from + length)},
		value: span{uint16(value), uint16(valueEnd)},
		known: classify(line[:length]),
	}
	if colon > length {
		f.spaced, h.dropped = true, true
	}
	if f.known != other {
		if err := h.learn(&f); err != nil {
			return err
		}
		h.dropped = h.dropped || f.drop && f.known != fieldConnection
	}
	if h.fields == nil {
		h.fields = make([]field, 0, usualFields)
	}
	h.fields = append(h.fields, f)
	return nil
}

// oddColon returns the position of the colon in a field line whose name, of that length,
// is empty or is not followed by the colon.
func (h *Head) oddColon(line []byte, from, length int) (int, error) {
	space, _ := trimOWS(line, length, len(line))
	switch {
	case length == 0 && space > 0:
		return 0, syntax(from, "a field line begins with white space (line folding is obsolete)")
	case length == 0 && line[0] == ':':
		return 0, syntax(from, "a field has no name")
	case space > length && h.response && space < len(line) && line[space] == ':':
		return space, nil
	case space > length:
		return 0, syntax(from+length, "white space within or after a field name")
	}
	return 0, syntax(from+length, "a field name has a byte that is not allowed")
}
