package http2

// Consume returns n bytes of window to the peer, after the caller has disposed of as many
// bytes of the stream's DATA. If the stream is closed, only the connection's window gets
// them. A WINDOW_UPDATE is sent when half of a window is consumed, not for each call. For
// the connection it is half of what stalled streams do not hold, so that the other
// streams never wait for those.
func (c *sender) Consume(id uint32, n int) {
	if n <= 0 || c.err != nil {
		return
	}
	if s := c.stream(id); s != nil {
		c.credit(s, int64(n))
	} else {
		c.creditConn(int64(n))
	}
}

func (c *sender) credit(s *stream, n int64) {
	c.creditConn(n)
	s.unacked += n
	if s.unacked >= s.window/2 {
		c.update(s)
	}
}

// update returns the consumed bytes of a stream to the peer.
func (c *sender) update(s *stream) {
	if s.unacked > 0 && !s.remoteClosed {
		_ = c.framer.WriteWindowUpdate(s.id, uint32(s.unacked))
		s.recv += s.unacked
		s.unacked = 0
	}
}

// Widen enlarges the receive window of a stream to size bytes. It does nothing if the window
// has as many, or if the peer has ended the stream. What streams may have together stays.
func (c *sender) Widen(id uint32, size int) {
	s := c.stream(id)
	if s == nil || c.err != nil || int64(size) <= s.window || size > maxWindow {
		return
	}
	s.unacked += int64(size) - s.window
	s.window = int64(size)
	c.update(s)
}

func (c *sender) creditConn(n int64) {
	c.unacked += n
	if c.unacked >= c.recv {
		_ = c.framer.WriteWindowUpdate(0, uint32(c.unacked))
		c.recv += c.unacked
		c.unacked = 0
	}
}

// windowUpdate handles WINDOW_UPDATE (RFC 9113 §6.9). The Framer has refused an
// increment of 0.
func (c *sender) windowUpdate(id, increment uint32) error {
	if id == 0 {
		if c.send += int64(increment); c.send > maxWindow {
			return connErr(FlowControlError, "WINDOW_UPDATE overflows the connection's window")
		}
		if c.sendBlocked && c.send > 0 {
			c.sendBlocked = false
			c.emit(Event{Kind: EventWindowOpened})
		}
		return nil
	}
	if c.idle(id) {
		return connErr(ProtocolError, "WINDOW_UPDATE on an idle stream")
	}
	s := c.stream(id)
	if s == nil {
		return nil
	}
	if s.send += int64(increment); s.send > maxWindow {
		return c.streamError(id, FlowControlError)
	}
	if s.blocked && s.send > 0 {
		s.blocked = false
		c.emit(Event{Kind: EventWindowOpened, Stream: id})
	}
	return nil
}
