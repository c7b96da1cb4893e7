package http2

// This file tells a driver what prevents a new stream, or the bytes of a stream, so that
// it can wait or use another connection.

// MaxOpen is the number of further streams that OpenStream would open now. It is 0 also
// while much output was not taken, because the peer does not read. Client role.
func (c *sender) MaxOpen() int {
	if c.Draining() || c.cfg.Role != Client || c.nextID > maxStreamID || len(c.out) >= maxUnread {
		return 0
	}
	n, _ := c.PeerMaxStreams()
	return max(0, n-c.streams.Len())
}

// PeerMaxStreams is the number of streams that the peer allows to be open at once (RFC
// 9113 §5.1.2). known is false until its SETTINGS arrive. Until then 100 is assumed, the
// least that §6.5.2 recommends, and the peer may refuse streams. A peer whose SETTINGS
// set no limit has none: n is 1<<30.
func (c *sender) PeerMaxStreams() (n int, known bool) {
	return int(min(c.peer.maxStreams, 1<<30)), c.gotSettings
}

// RoomOpened reports, once, that OpenStream has returned ErrTooManyStreams and would not
// return it now: a stream has ended, the peer allows more streams, or the connection is
// draining. In the last case OpenStream returns ErrGoingAway, and the request needs
// another connection. Call it after each Feed, and after the other calls that can end a
// stream: WriteReset, and WriteData, WriteHeaders and WriteTrailers with END_STREAM.
func (c *sender) RoomOpened() bool {
	if !c.turnedAway || c.MaxOpen() == 0 && !c.Draining() && c.nextID <= maxStreamID {
		return false
	}
	c.turnedAway = false
	return true
}

// Stall is what prevents WriteData from taking bytes of a stream.
type Stall uint8

const (
	// StallNone: nothing.
	StallNone Stall = iota
	// StallStream: the stream's own window is used up. Other streams are not affected.
	// EventWindowOpened of the stream follows.
	StallStream
	// StallConn: the connection's window is used up, so that no stream can continue.
	// EventWindowOpened of stream 0 follows.
	StallConn
	// StallOutput: Config.OutputLimit is reached. OutputOpened reports when the output has
	// been taken.
	StallOutput
)

var stallNames = [...]string{"none", "stream window", "connection window", "output"}

func (s Stall) String() string {
	if int(s) < len(stallNames) {
		return stallNames[s]
	}
	return "unknown"
}

// Stalled is what would prevent WriteData from taking bytes of the stream now. If several
// apply, it is the first one in the order of the constants. It is StallNone for a closed
// stream.
func (c *sender) Stalled(id uint32) Stall {
	s := c.stream(id)
	switch {
	case s == nil || s.localClosed:
		return StallNone
	case s.send <= 0:
		return StallStream
	case c.send <= 0:
		return StallConn
	case len(c.out) >= c.cfg.OutputLimit:
		return StallOutput
	}
	return StallNone
}

// Windows returns the rest of the connection's windows in bytes: send is what this end
// may still send on all streams together, recv what the peer may. If one of them is 0, a
// new stream cannot carry a body in that direction before the stalled streams continue.
func (c *sender) Windows() (send, recv int) {
	return int(max(0, c.send)), int(max(0, c.recv))
}
