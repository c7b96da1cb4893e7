package http2

import (
	"encoding/binary"
	"errors"

	xhttp2 "golang.org/x/net/http2"
)

// frame handles one complete frame.
func (c *Conn) frame(b []byte) error {
	h := parseHeader(b)
	if !c.gotSettings {
		// The server's preface is a SETTINGS frame too (RFC 9113 §3.4).
		if h.typ != xhttp2.FrameSettings || h.flags.Has(xhttp2.FlagSettingsAck) {
			return connErr(ProtocolError, "the first frame is not SETTINGS")
		}
	}
	if h.typ == xhttp2.FrameData {
		return c.data(h, b[frameHeaderLen:])
	}
	if c.block.stream == 0 {
		if done, err := c.plain(h, b[frameHeaderLen:]); done {
			return err
		}
	}
	c.reader.Reset(b)
	f, err := c.framer.ReadFrame()
	if err != nil {
		return c.frameError(h, err)
	}
	switch f := f.(type) {
	case *xhttp2.HeadersFrame:
		return c.headers(f.StreamID, f.StreamEnded(), f.HasPriority() && f.Priority.StreamDep == f.StreamID, f.HeaderBlockFragment(), f.HeadersEnded())
	case *xhttp2.ContinuationFrame:
		return c.continuationFrame(f)
	case *xhttp2.SettingsFrame:
		return c.settingsFrame(f)
	case *xhttp2.WindowUpdateFrame:
		return c.windowUpdate(f.StreamID, f.Increment)
	case *xhttp2.RSTStreamFrame:
		return c.resetFrame(f)
	case *xhttp2.PingFrame:
		return c.pingFrame(f)
	case *xhttp2.GoAwayFrame:
		return c.goAwayFrame(f)
	case *xhttp2.PriorityFrame:
		return c.priorityFrame(f)
	case *xhttp2.PushPromiseFrame:
		return connErr(ProtocolError, "PUSH_PROMISE although push is disabled")
	}
	return nil // unknown frame types are ignored (RFC 9113 §5.5)
}

// plain handles the usual forms of frequent frames, for which the Framer would allocate.
// done is false for other frames and forms.
func (c *Conn) plain(h header, p []byte) (done bool, err error) {
	switch h.typ {
	case xhttp2.FrameHeaders:
		if h.stream == 0 || h.flags&^xhttp2.FlagHeadersEndStream != xhttp2.FlagHeadersEndHeaders {
			return false, nil // invalid, padded, with a priority, or continued
		}
		return true, c.headers(h.stream, h.flags.Has(xhttp2.FlagHeadersEndStream), false, p, true)
	case xhttp2.FrameWindowUpdate:
		if len(p) != 4 {
			return false, nil
		}
		if increment := binary.BigEndian.Uint32(p) & maxWindow; increment != 0 {
			return true, c.windowUpdate(h.stream, increment)
		}
	}
	return false, nil
}

// frameError converts the Framer's error into a ConnError or a stream error.
func (c *Conn) frameError(h header, err error) error {
	var ce xhttp2.ConnectionError
	var se xhttp2.StreamError
	switch {
	case errors.As(err, &ce):
		reason := "malformed " + h.typ.String() + " frame"
		if detail := c.framer.ErrorDetail(); detail != nil {
			reason = detail.Error()
		}
		return connErr(ErrCode(ce), reason)
	case errors.As(err, &se):
		// A field section that is not decoded breaks HPACK's state, and only HEADERS may
		// arrive for an idle stream.
		if h.typ == xhttp2.FrameHeaders || c.idle(h.stream) {
			return connErr(se.Code, "malformed "+h.typ.String()+" frame")
		}
		if c.stream(h.stream) == nil {
			return nil
		}
		return c.streamError(h.stream, se.Code)
	}
	return connErr(FrameSizeError, h.typ.String()+" frame too short")
}

// data handles a DATA frame (RFC 9113 §6.1). p is the frame's payload.
func (c *receiver) data(h header, p []byte) error {
	switch {
	case c.block.stream != 0:
		return connErr(ProtocolError, "DATA frame within a field section")
	case h.stream == 0:
		return connErr(ProtocolError, "DATA frame on stream 0")
	}
	flow := int64(len(p)) // padding counts (§6.9.1)
	if h.flags.Has(xhttp2.FlagDataPadded) {
		if len(p) == 0 {
			return connErr(FrameSizeError, "padded DATA frame without pad length")
		}
		pad := int(p[0])
		if p = p[1:]; pad > len(p) {
			return connErr(ProtocolError, "DATA padding longer than the frame")
		}
		p = p[:len(p)-pad]
	}
	if c.idle(h.stream) {
		return connErr(ProtocolError, "DATA frame on an idle stream")
	}
	if flow > c.recv {
		return connErr(FlowControlError, "DATA over the connection's window")
	}
	c.recv -= flow

	s := c.stream(h.stream)
	if s == nil || s.remoteClosed {
		c.creditConn(flow)
		if s == nil {
			// If how the stream ended is not known any more, this end may have reset it:
			// with many streams more frames may be on their way than closedRing holds.
			if how := c.closed.cause(h.stream); how == closedByUs || how == closedUnknown || c.away.discards(h.stream) {
				return nil
			}
		}
		return c.streamError(h.stream, StreamClosed)
	}
	if flow > s.recv {
		c.creditConn(flow)
		return c.streamError(h.stream, FlowControlError)
	}
	s.recv -= flow
	s.received += int64(len(p))
	end := h.flags.Has(xhttp2.FlagDataEndStream)
	if !s.gotHeaders || !s.lengthHolds(end) {
		c.creditConn(flow)
		return c.streamError(h.stream, ProtocolError)
	}
	s.remoteClosed = end
	if padding := flow - int64(len(p)); padding > 0 {
		c.credit(s, padding)
	}
	if len(p) > 0 || end {
		c.useful()
		c.emit(Event{Kind: EventData, Stream: h.stream, Payload: p, EndStream: end})
	} else if err := c.emptyFrame(); err != nil {
		return err
	}
	c.closeIfDone(s)
	return nil
}

// lengthHolds checks the length of DATA against content-length (RFC 9113 §8.1.1).
func (s *stream) lengthHolds(end bool) bool {
	if s.contentLength < 0 || s.connect {
		return true
	}
	if s.noBody {
		return s.received == 0
	}
	return s.received <= s.contentLength && (!end || s.received == s.contentLength)
}

// resetFrame handles RST_STREAM (RFC 9113 §6.4).
func (c *receiver) resetFrame(f *xhttp2.RSTStreamFrame) error {
	if c.idle(f.StreamID) {
		return connErr(ProtocolError, "RST_STREAM on an idle stream")
	}
	s := c.stream(f.StreamID)
	if s == nil {
		return nil
	}
	c.closeStream(s, closedByPeer)
	c.emit(Event{
		Kind: EventReset, Stream: f.StreamID, Code: f.ErrCode,
		Retryable: c.cfg.Role == Client && f.ErrCode == RefusedStream && !s.gotHeaders,
		Vain:      c.cfg.Role == Server && !s.sentHeaders,
	})
	return nil
}

// priorityFrame ignores PRIORITY (deprecated, RFC 9113 §5.3.2), except for invalid ones.
func (c *receiver) priorityFrame(f *xhttp2.PriorityFrame) error {
	switch {
	case f.StreamDep != f.StreamID:
		return nil
	case c.idle(f.StreamID): // RST_STREAM must not name an idle stream
		return connErr(ProtocolError, "a stream depends on itself")
	case c.stream(f.StreamID) == nil:
		return nil
	}
	return c.streamError(f.StreamID, ProtocolError)
}

// pingFrame handles PING (RFC 9113 §6.7).
func (c *receiver) pingFrame(f *xhttp2.PingFrame) error {
	if !f.IsAck() {
		c.control += frameHeaderLen + 8
		return c.framer.WritePing(true, f.Data)
	}
	switch f.Data {
	case pingProbe:
		c.emit(Event{Kind: EventPingAck})
	case pingDrain:
		c.finishDrain()
	}
	return nil
}
