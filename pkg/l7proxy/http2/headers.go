package http2

import (
	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// block is the field section that is being received: HEADERS and its CONTINUATION
// frames, which no other frame may interrupt (RFC 9113 §4.3).
type block struct {
	stream  uint32 // 0: none
	end     bool   // END_STREAM
	discard bool   // decode it to keep HPACK's state, then discard it
	selfDep bool   // the stream's priority depends on itself

	first    int // index in Conn.fields of the first field
	size     int // size of the list so far (RFC 9113 §6.5.2)
	wire     int // bytes of fragments so far
	frames   int // CONTINUATION frames so far
	tooLarge bool
}

// keepOpenBlock discards the fields, except those of an incomplete section.
func (c *receiver) keepOpenBlock() {
	n := 0
	if c.block.stream != 0 {
		n = copy(c.fields, c.fields[c.block.first:])
		c.block.first = 0
	}
	c.fields = c.fields[:n]
}

// headers handles HEADERS (RFC 9113 §6.2): it decides by the stream's state what the
// section is. selfDep is set if the stream depends on itself, last if no CONTINUATION
// follows p.
func (c *receiver) headers(id uint32, end, selfDep bool, p []byte, last bool) error {
	c.block = block{stream: id, end: end, selfDep: selfDep, first: len(c.fields)}
	if c.stream(id) == nil {
		if err := c.headersOfNoStream(id); err != nil {
			return err
		}
	}
	return c.fragment(p, last)
}

// headersOfNoStream handles HEADERS that belong to no open stream: in the server role
// they open one, else they are late or invalid.
func (c *receiver) headersOfNoStream(id uint32) error {
	switch {
	case id%2 == 0:
		return connErr(ProtocolError, "HEADERS on a stream of even id")
	case c.cfg.Role == Client:
		if c.idle(id) {
			return connErr(ProtocolError, "HEADERS on an idle stream")
		}
		c.block.discard = true // response to a request that was cancelled
	case id > c.lastPeerID:
		c.lastPeerID = id
		c.block.discard = c.away.discards(id)
	case c.away.discards(id):
		c.block.discard = true
	default:
		switch c.closed.cause(id) {
		case closedByUs:
			c.block.discard = true
		case closedByEnd, closedByPeer:
			return connErr(StreamClosed, "HEADERS on a closed stream")
		case closedUnknown:
			return connErr(ProtocolError, "HEADERS on a stream id lower than the latest")
		}
	}
	return nil
}

func (c *receiver) continuationFrame(f *xhttp2.ContinuationFrame) error {
	if c.block.frames++; c.block.frames > maxContinuations {
		return connErr(EnhanceYourCalm, "too many CONTINUATION frames")
	}
	return c.fragment(f.HeaderBlockFragment(), f.HeadersEnded())
}

// fragment decodes a part of a field section when it arrives. Only what HPACK cannot
// decode yet is buffered.
func (c *receiver) fragment(p []byte, last bool) error {
	// HPACK's representation is at most twice as long as the fields, so this ends only
	// connections whose section is over the limit anyway.
	if c.block.wire += len(p); c.block.wire > 2*c.cfg.MaxHeaderList+maxFrameIn {
		return connErr(EnhanceYourCalm, "header section far over the limit")
	}
	if _, err := c.dec.Write(p); err != nil {
		return connErr(CompressionError, "HPACK: "+err.Error())
	}
	if !last {
		return nil
	}
	if err := c.dec.Close(); err != nil {
		return connErr(CompressionError, "HPACK: "+err.Error())
	}
	c.dec.SetEmitEnabled(true)
	b := c.block
	c.block.stream = 0
	if b.discard {
		c.fields = c.fields[:b.first]
		return nil
	}
	fields := c.fields[b.first:len(c.fields):len(c.fields)]
	if s := c.stream(b.stream); s != nil {
		return c.moreHeaders(s, &b, fields)
	}
	return c.openedByPeer(&b, fields)
}

// onField receives one decoded field.
func (c *receiver) onField(f hpack.HeaderField) {
	b := &c.block
	b.size += int(f.Size())
	if b.size > c.cfg.MaxHeaderList || len(c.fields)-b.first >= c.cfg.MaxHeaderCount {
		b.tooLarge = true
		c.dec.SetEmitEnabled(false) // the rest is parsed and discarded
		return
	}
	if !b.discard {
		c.fields = append(c.fields, f)
	}
}

// openedByPeer handles the request head that opens a stream.
func (c *receiver) openedByPeer(b *block, fields []Field) error {
	req, reason := request{}, ""
	switch {
	case b.selfDep:
		return c.streamError(b.stream, ProtocolError)
	case !b.tooLarge:
		req, reason = checkRequest(fields, c.cfg.ConnectProtocol)
	}
	// Heads have no window: a peer that does not read what it gets may not ask for more.
	if c.streams.Len() >= c.cfg.MaxStreams || len(c.out) >= maxUnread {
		return c.refuse(b.stream)
	}
	s := c.addStream(b.stream)
	s.gotHeaders = true
	s.remoteClosed = b.end
	s.connect = req.connect
	if !b.tooLarge && reason == "" {
		s.contentLength = req.contentLength
	}
	if b.end && !s.lengthHolds(true) {
		s.contentLength, reason = -1, "content-length without a body"
	}
	c.useful()
	if reason != "" {
		c.emit(Event{Kind: EventMalformed, Stream: b.stream, Fields: fields, Reason: reason, EndStream: b.end})
		s.malformed = true
		return c.inVain(1)
	}
	c.emit(Event{Kind: EventHeaders, Stream: b.stream, Fields: fields, EndStream: b.end, TooLarge: b.tooLarge})
	return nil
}

// moreHeaders handles a field section on an open stream: trailers, or a response head in
// the client role.
func (c *receiver) moreHeaders(s *stream, b *block, fields []Field) error {
	trailers := s.gotHeaders
	switch {
	case s.remoteClosed:
		return c.streamError(s.id, StreamClosed)
	case b.selfDep:
		return c.streamError(s.id, ProtocolError)
	case b.tooLarge:
		return c.sectionTooLarge(s)
	case trailers && (!b.end || !checkTrailers(fields)):
		return c.streamError(s.id, ProtocolError)
	case !trailers && !c.responseHead(s, fields, b.end):
		return c.streamError(s.id, ProtocolError)
	case b.end && !s.lengthHolds(true):
		return c.streamError(s.id, ProtocolError)
	}
	s.remoteClosed = b.end
	c.useful()
	c.emit(Event{Kind: EventHeaders, Stream: s.id, Fields: fields, EndStream: b.end, Trailers: trailers})
	c.closeIfDone(s)
	return nil
}

// sectionTooLarge resets a stream whose response head or trailers exceed the limit.
func (c *receiver) sectionTooLarge(s *stream) error {
	err := c.streamError(s.id, EnhanceYourCalm)
	c.events[len(c.events)-1].TooLarge = true
	return err
}

// responseHead checks a response's field section and records its consequences.
func (c *receiver) responseHead(s *stream, fields []Field, end bool) bool {
	status, length, ok := checkResponse(fields)
	if !ok {
		return false
	}
	if status < 200 {
		return !end // RFC 9113 §8.1: an interim response does not end the stream
	}
	s.gotHeaders = true
	s.contentLength = length
	s.noBody = s.noBody || status == 304 || status == 204
	s.connect = s.connect && status < 300
	return true
}
