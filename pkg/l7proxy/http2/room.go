package http2

// Room for streams and bytes: what keeps a new stream, or a stream's bytes, from going
// on, so that a driver can wait for it or go elsewhere.

// MaxOpen is how many further streams OpenStream would open now. Client role.
func (c *Conn) MaxOpen() int {
	if c.Draining() || c.cfg.Role != Client || c.nextID > maxStreamID {
		return 0
	}
	n, _ := c.PeerMaxStreams()
	return max(0, n-len(c.streams))
}

// PeerMaxStreams is how many streams the peer lets this end have open at once (RFC
// 9113 §5.1.2). Until its SETTINGS arrive it is not known, and 100: the least that
// §6.5.2 recommends. A stream opened by then may be refused.
func (c *Conn) PeerMaxStreams() (n int, known bool) {
	return int(min(c.peer.maxStreams, 1<<30)), c.gotSettings
}

// RoomOpened reports, once, that OpenStream has turned a request away with
// ErrTooManyStreams and would not do so now: a stream has ended, the peer allows
// more, or the connection takes no further stream at all, in which case OpenStream
// says ErrGoingAway and the request has to go elsewhere. Ask after each Feed, and after
// what else ends streams: WriteReset, and WriteData, WriteHeaders and WriteTrailers
// with an end.
func (c *Conn) RoomOpened() bool {
	if !c.turnedAway || c.MaxOpen() == 0 && !c.Draining() && c.nextID <= maxStreamID {
		return false
	}
	c.turnedAway = false
	return true
}

// Stall is what keeps WriteData from taking a stream's bytes.
type Stall uint8

const (
	// StallNone: nothing does.
	StallNone Stall = iota
	// StallStream: the stream's window is spent, which concerns no other stream.
	// EventWindowOpened of the stream ends it.
	StallStream
	// StallConn: the connection's window is spent, and no stream can go on.
	// EventWindowOpened of stream 0 ends it.
	StallConn
	// StallOutput: Config.OutputLimit is reached until the output is taken.
	// OutputOpened says when.
	StallOutput
)

var stallNames = [...]string{"none", "stream window", "connection window", "output"}

func (s Stall) String() string {
	if int(s) < len(stallNames) {
		return stallNames[s]
	}
	return "unknown"
}

// Stalled is what would keep WriteData from taking bytes of the stream now: the first
// that applies in the order of the constants. It is StallNone for a stream that is gone.
func (c *Conn) Stalled(id uint32) Stall {
	s := c.streams[id]
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

// Windows are what is left of the connection's windows, in bytes: send is what the
// peer takes of all streams together, recv what it may send. If one of them is 0 a
// further stream would get nothing through in that direction until streams that are
// stalled go on.
func (c *Conn) Windows() (send, recv int) {
	return int(max(0, c.send)), int(max(0, c.recv))
}
