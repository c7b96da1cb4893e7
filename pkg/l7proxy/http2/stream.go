package http2

// stream is the state of one open or half-closed stream (RFC 9113 §5.1). Idle streams
// have an id above those used so far. closedRing has the latest closed streams.
type stream struct {
	id           uint32
	localClosed  bool // this end sent END_STREAM
	remoteClosed bool // the peer sent END_STREAM

	gotHeaders  bool // the field section of the request, or of the final response, has arrived
	sentHeaders bool // the same section was sent
	noBody      bool // client role: the request was HEAD, so that no DATA follows content-length
	connect     bool // CONNECT: content-length has no meaning
	blocked     bool // WriteData did not take all bytes because of this stream's window
	malformed   bool // the request is malformed
	credited    bool // the response took one stream out of the bucket of resets

	send    int64 // send window
	window  int64 // receive window
	recv    int64 // rest of it
	unacked int64 // bytes consumed but not returned to the peer's window yet

	contentLength int64 // announced by the peer; -1: none
	received      int64 // bytes of DATA so far
}

// stream returns the state of a stream; nil: it is not open.
func (c *base) stream(id uint32) *stream {
	s, _ := c.streams.Get(id)
	return s
}

// addStream adds the state of a stream that is opened now.
func (c *base) addStream(id uint32) *stream {
	var s *stream
	if n := len(c.free); n > 0 {
		s = c.free[n-1]
		c.free = c.free[:n-1]
	} else {
		s = new(stream)
	}
	*s = stream{id: id, send: c.peer.initialWindow, window: int64(c.cfg.StreamWindow), recv: int64(c.cfg.StreamWindow), contentLength: -1}
	c.streams.Put(id, s)
	return s
}

// closeStream removes s. how distinguishes late frames from violations.
func (c *base) closeStream(s *stream, how closeCause) {
	c.streams.Delete(s.id)
	c.closed.add(s.id, how)
	if len(c.free) < min(c.cfg.MaxStreams, maxFree) {
		c.free = append(c.free, s)
	}
}

// closeIfDone removes s if both sides have ended it.
func (c *base) closeIfDone(s *stream) {
	if s.localClosed && s.remoteClosed {
		c.closeStream(s, closedByEnd)
	}
}

// resetStream sends RST_STREAM and removes the stream.
func (c *base) resetStream(s *stream, code ErrCode) {
	_ = c.framer.WriteRSTStream(s.id, code)
	c.closeStream(s, closedByUs)
}

// streamError handles a violation by the peer on one stream (RFC 9113 §5.4.2): it resets
// the stream, and the connection continues.
func (c *guard) streamError(id uint32, code ErrCode) error {
	s := c.stream(id)
	if s != nil {
		c.resetStream(s, code)
		c.emit(Event{Kind: EventReset, Stream: id, Code: code, Local: true})
	} else {
		_ = c.framer.WriteRSTStream(id, code)
		c.closed.add(id, closedByUs)
	}
	c.control += frameHeaderLen + 4
	return c.violation(s)
}

// refuse refuses a request that exceeds MaxStreams (RFC 9113 §5.1.2). The code tells the
// peer that it may send the request again (§8.7).
func (c *guard) refuse(id uint32) error {
	_ = c.framer.WriteRSTStream(id, RefusedStream)
	c.closed.add(id, closedByUs)
	c.control += frameHeaderLen + 4
	if !c.acked && c.abuse.refused < maxRefusedEarly {
		c.abuse.refused++ // the peer does not know the setting yet
		return nil
	}
	return c.inVain(1)
}

// idle reports whether the stream was never opened.
func (c *base) idle(id uint32) bool {
	if c.cfg.Role == Server {
		return id%2 == 0 || id > c.lastPeerID
	}
	return id%2 == 0 || id >= c.nextID
}

// closeCause is how a stream ended.
type closeCause uint8

const (
	closedUnknown closeCause = iota // too long ago, or an id that was skipped
	closedByEnd                     // both sides sent END_STREAM
	closedByPeer                    // the peer sent RST_STREAM
	closedByUs                      // this end sent it: frames that cross it are ignored
)

// closedRing stores how the latest streams ended, in memory of fixed size.
type closedRing struct {
	ids    [128]uint32
	causes [128]closeCause
	next   int
}

func (r *closedRing) add(id uint32, how closeCause) {
	r.ids[r.next], r.causes[r.next] = id, how
	r.next = (r.next + 1) % len(r.ids)
}

func (r *closedRing) cause(id uint32) closeCause {
	for i := range r.ids {
		if r.ids[i] == id {
			return r.causes[i]
		}
	}
	return closedUnknown
}
