package http2

import (
	"encoding/binary"
	"strings"

	xhttp2 "golang.org/x/net/http2"
)

// OpenStream sends a request head on a new stream and returns its id. Client
// role. Errors: ErrGoingAway, ErrTooManyStreams (RoomOpened says when to try again),
// ErrHeaderTooLarge, and for an extended CONNECT ErrNoSettings and ErrNoConnectProtocol.
func (c *sender) OpenStream(fields []Field, end bool) (uint32, error) {
	switch {
	case c.Draining() || c.cfg.Role != Client || c.nextID > maxStreamID:
		return 0, ErrGoingAway
	case c.MaxOpen() == 0:
		c.turnedAway = true
		return 0, ErrTooManyStreams
	case !c.fits(fields):
		return 0, ErrHeaderTooLarge
	case !c.peer.connect && extendedConnect(fields):
		if !c.gotSettings {
			return 0, ErrNoSettings
		}
		return 0, ErrNoConnectProtocol
	}
	id := c.nextID
	c.nextID += 2
	s := c.addStream(id)
	s.sentHeaders = true
	for i := range fields {
		if fields[i].Name == ":method" {
			s.noBody = fields[i].Value == "HEAD"
			s.connect = fields[i].Value == "CONNECT"
		}
	}
	c.writeFields(id, fields, end)
	s.localClosed = end
	return id, nil
}

// extendedConnect: only CONNECT may have a :protocol.
func extendedConnect(fields []Field) bool {
	for i := range fields {
		if fields[i].Name == ":protocol" {
			return true
		}
		if !strings.HasPrefix(fields[i].Name, ":") {
			break
		}
	}
	return false
}

// WriteHeaders sends a response head, an interim (1xx) response, or trailers with end
// set. Errors: ErrStreamClosed, ErrHeaderTooLarge.
func (c *sender) WriteHeaders(id uint32, fields []Field, end bool) error {
	s := c.stream(id)
	switch {
	case s == nil || s.localClosed || c.err != nil:
		return ErrStreamClosed
	case !c.fits(fields):
		return ErrHeaderTooLarge
	}
	if !interim(fields) {
		s.sentHeaders = true
		c.answered(s)
	}
	c.writeFields(id, fields, end)
	s.localClosed = end
	c.closeIfDone(s)
	return nil
}

// WriteTrailers ends the stream with a trailer section.
func (c *sender) WriteTrailers(id uint32, fields []Field) error {
	return c.WriteHeaders(id, fields, true)
}

func interim(fields []Field) bool {
	return len(fields) > 0 && fields[0].Name == ":status" && strings.HasPrefix(fields[0].Value, "1")
}

func (c *sender) fits(fields []Field) bool {
	size := 0
	for i := range fields {
		size += int(fields[i].Size())
	}
	return size <= int(c.peer.maxHeaderList)
}

// writeFields encodes a field section into HEADERS and CONTINUATION frames.
func (c *sender) writeFields(id uint32, fields []Field, end bool) {
	c.encBuf.Reset()
	for i := range fields {
		_ = c.enc.WriteField(fields[i]) // writes to memory: cannot fail
	}
	limit := c.frameLimit()
	p := c.encBuf.Next(limit)
	_ = c.framer.WriteHeaders(xhttp2.HeadersFrameParam{
		StreamID: id, BlockFragment: p, EndStream: end, EndHeaders: c.encBuf.Len() == 0,
	})
	for c.encBuf.Len() > 0 {
		p = c.encBuf.Next(limit)
		_ = c.framer.WriteContinuation(id, c.encBuf.Len() == 0, p)
	}
}

func (c *sender) frameLimit() int { return int(min(c.peer.maxFrame, maxFrameOut)) }

// WriteData sends as much of p as the peer's windows and the output buffer allow, and
// returns how many bytes it took. With end set, END_STREAM is sent with the last byte of
// p. If n < len(p), continue with the rest after EventWindowOpened of the stream or of
// stream 0, or after OutputOpened; Stalled tells which. Error: ErrStreamClosed.
func (c *sender) WriteData(id uint32, p []byte, end bool) (n int, err error) {
	s := c.stream(id)
	if s == nil || s.localClosed || c.err != nil {
		return 0, ErrStreamClosed
	}
	for n < len(p) {
		chunk := min(len(p)-n, c.frameLimit(), c.cfg.FrameFits-frameHeaderLen)
		switch {
		case s.send <= 0:
			s.blocked = true
			return n, nil
		case c.send <= 0:
			c.sendBlocked = true
			return n, nil
		case len(c.out) >= c.cfg.OutputLimit:
			c.outBlocked = true
			return n, nil
		}
		chunk = int(min(int64(chunk), s.send, c.send))
		s.send -= int64(chunk)
		c.send -= int64(chunk)
		c.dataFrame(s, p[n:n+chunk], end && n+chunk == len(p))
		n += chunk
	}
	if len(p) == 0 && end {
		c.dataFrame(s, nil, true)
	}
	c.closeIfDone(s)
	return n, nil
}

// dataFrame appends one DATA frame to the output. The Framer would copy it once more.
func (c *sender) dataFrame(s *stream, p []byte, end bool) {
	flags := byte(0)
	if end {
		flags = byte(xhttp2.FlagDataEndStream)
		s.localClosed = true
	}
	c.sentData += len(p)
	c.reserve(frameHeaderLen + len(p))
	c.out = append(c.out, byte(len(p)>>16), byte(len(p)>>8), byte(len(p)), byte(xhttp2.FrameData), flags)
	c.out = binary.BigEndian.AppendUint32(c.out, s.id)
	c.out = append(c.out, p...)
}

// WriteReset ends the stream with RST_STREAM. It does nothing if the stream is closed.
func (c *sender) WriteReset(id uint32, code ErrCode) {
	if s := c.stream(id); s != nil && c.err == nil {
		c.resetStream(s, code)
	}
}
