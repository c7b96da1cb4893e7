package http2

import "time"

// stream is the state of one open or half-closed stream, RFC 9113 §5.1. Idle
// streams have an id above those used; closed ones are remembered for a while
// in closedRing.
type stream struct {
	id           uint32
	localClosed  bool // we sent END_STREAM
	remoteClosed bool // the peer did

	gotHeaders  bool // the request's, or the final response's, field section arrived
	sentHeaders bool // the same, sent
	noBody      bool // client role: the request was HEAD, so content-length announces no DATA
	connect     bool // CONNECT: content-length means nothing
	blocked     bool // WriteData was turned away by this stream's window
	malformed   bool // the request is
	credited    bool // its answer made room in the bucket of resets

	opened time.Duration // Conn.now then

	send    int64 // send window
	recv    int64 // receive window left
	unacked int64 // consumed and not yet given back

	contentLength int64 // announced by the peer; -1 if not
	received      int64 // DATA bytes so far
}

// addStream makes the state of a stream that opens now.
func (c *Conn) addStream(id uint32) *stream {
	var s *stream
	if n := len(c.free); n > 0 {
		s = c.free[n-1]
		c.free = c.free[:n-1]
	} else {
		s = new(stream)
	}
	*s = stream{id: id, opened: c.now, send: c.peer.initialWindow, recv: int64(c.cfg.StreamWindow), contentLength: -1}
	c.streams[id] = s
	return s
}

// closeStream forgets s; how tells late frames from violations.
func (c *Conn) closeStream(s *stream, how closeCause) {
	delete(c.streams, s.id)
	c.closed.add(s.id, how)
	if len(c.free) < c.cfg.MaxStreams {
		c.free = append(c.free, s)
	}
}

// closeIfDone forgets s once both sides have ended it.
func (c *Conn) closeIfDone(s *stream) {
	if s.localClosed && s.remoteClosed {
		c.closeStream(s, closedByEnd)
	}
}

// resetStream sends RST_STREAM and forgets the stream.
func (c *Conn) resetStream(s *stream, code ErrCode) {
	_ = c.framer.WriteRSTStream(s.id, code)
	c.closeStream(s, closedByUs)
}

// streamError answers a violation of the peer's on one stream (RFC 9113
// §5.4.2): the stream is reset, the connection goes on.
func (c *Conn) streamError(id uint32, code ErrCode) error {
	s := c.streams[id]
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

// refuse answers a request beyond MaxStreams (RFC 9113 §5.1.2), so that the peer
// knows that it may send it again (§8.7).
func (c *Conn) refuse(id uint32) error {
	_ = c.framer.WriteRSTStream(id, RefusedStream)
	c.closed.add(id, closedByUs)
	c.control += frameHeaderLen + 4
	if !c.acked && c.abuse.refused < maxRefusedEarly {
		c.abuse.refused++ // it does not know the setting yet
		return nil
	}
	return c.inVain(1)
}

// idle reports whether no frame ever opened the stream.
func (c *Conn) idle(id uint32) bool {
	if c.cfg.Role == Server {
		return id%2 == 0 || id > c.lastPeerID
	}
	return id%2 == 0 || id >= c.nextID
}

// closeCause is how a stream came to its end.
type closeCause uint8

const (
	closedUnknown closeCause = iota // long ago, or skipped over
	closedByEnd                     // both sides sent END_STREAM
	closedByPeer                    // the peer sent RST_STREAM
	closedByUs                      // we did: what the peer sent before it knew is ignored
)

// closedRing remembers how the latest streams ended, in fixed memory.
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
