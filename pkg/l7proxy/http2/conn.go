package http2

import (
	"bytes"
	"encoding/binary"
	"time"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// FrameHeader is the size of a frame's header in bytes (RFC 9113 §4.1).
const FrameHeader = 9

const frameHeaderLen = FrameHeader

// Conn is one end of an HTTP/2 connection. Make it with New.
//
// It is made of layers, each of which embeds the one below it and knows none above: base,
// guard, sender, receiver. Conn itself reads frames and hands them to the layers.
type Conn struct {
	receiver

	prefaceLeft string // part of the client's preface that has not arrived
	in          inbox
	reader      bytes.Reader
}

// base has the streams, the events that were found and the output.
type base struct {
	cfg Config
	err error // the *ConnError that ended the connection

	framer  *xhttp2.Framer
	events  []Event
	out     []byte
	control int // bytes of out that are replies to the peer's frames

	// Streams. The peer opens streams only in the server role, because push is disabled.
	streams    Table[*stream]
	free       []*stream
	closed     closedRing
	nextID     uint32 // client role: id of the next stream
	lastPeerID uint32 // server role: highest id that the peer has used

	gotSettings bool // the peer's first SETTINGS have arrived
	acked       bool // the peer has acknowledged ours
	peer        peerSettings
	away        awayState
}

// guard refuses what the peer may not do, or not so often, and ends the connection
// (limits.go, goaway.go).
type guard struct {
	base

	abuse    abuse
	sentData int           // bytes of DATA since the last Feed
	now      time.Duration // of the latest Tick
}

// sender opens streams and sends what they have, as far as windows and limits allow
// (send.go, room.go, flow.go).
type sender struct {
	guard

	enc    *hpack.Encoder
	encBuf bytes.Buffer

	recv, unacked int64 // rest of the connection's receive window; bytes consumed but not returned yet
	send          int64 // the connection's send window
	sendBlocked   bool  // some WriteData was refused because of send
	turnedAway    bool  // some OpenStream was refused because of the peer's limit on streams
	outBlocked    bool  // some WriteData was refused because of OutputLimit
}

// receiver makes events of the peer's frames (frames.go, headers.go, settings.go).
type receiver struct {
	sender

	dec    *hpack.Decoder
	block  block
	fields []Field // memory of Event.Fields of the current Feed
}

// peerSettings are the settings of the other end (RFC 9113 §6.5.2).
type peerSettings struct {
	maxFrame      uint32
	maxStreams    uint32
	initialWindow int64
	maxHeaderList uint32
	connect       bool // extended CONNECT, RFC 8441
}

// New returns a Conn. Its output already contains the connection preface.
func New(cfg Config) *Conn {
	cfg = cfg.withDefaults()
	c := &Conn{}
	c.cfg, c.nextID = cfg, 1
	c.recv, c.send = int64(cfg.ConnWindow), initialWindow
	c.peer = peerSettings{
		maxFrame:      16 << 10,
		maxStreams:    earlyStreams,
		initialWindow: initialWindow,
		maxHeaderList: noLimit,
	}
	c.abuse = abuse{
		resets:  newBucket(cfg.Resets.Burst, cfg.Resets.PerSecond),
		empty:   newBucket(emptyBurst, emptyRate),
		framing: newBucket(framingBurst, framingRate),
		windows: newBucket(windowsBurst, windowsRate),
	}
	c.away = awayState{sentLast: maxStreamID, recvLast: maxStreamID}
	c.framer = xhttp2.NewFramer((*outWriter)(&c.base), &c.reader)
	c.framer.SetMaxReadFrameSize(maxFrameIn)
	c.dec = hpack.NewDecoder(headerTableSize, c.onField)
	c.enc = hpack.NewEncoder(&c.encBuf)

	settings := []xhttp2.Setting{
		{ID: xhttp2.SettingInitialWindowSize, Val: uint32(cfg.StreamWindow)},
		{ID: xhttp2.SettingMaxHeaderListSize, Val: uint32(cfg.MaxHeaderList)},
	}
	if cfg.Role == Server {
		c.prefaceLeft = xhttp2.ClientPreface
		settings = append(settings, xhttp2.Setting{ID: xhttp2.SettingMaxConcurrentStreams, Val: uint32(cfg.MaxStreams)})
		if cfg.ConnectProtocol {
			settings = append(settings, xhttp2.Setting{ID: xhttp2.SettingEnableConnectProtocol, Val: 1})
		}
	} else {
		c.out = append(c.out, xhttp2.ClientPreface...)
		settings = append(settings, xhttp2.Setting{ID: xhttp2.SettingEnablePush, Val: 0})
	}
	_ = c.framer.WriteSettings(settings...) // writes to memory: cannot fail
	if d := cfg.ConnWindow - initialWindow; d > 0 {
		_ = c.framer.WriteWindowUpdate(0, uint32(d))
	}
	return c
}

// outWriter is the output buffer as the Framer's io.Writer.
type outWriter base

func (w *outWriter) Write(p []byte) (int, error) {
	(*base)(w).reserve(len(p))
	w.out = append(w.out, p...)
	return len(p), nil
}

// Feed takes the bytes that have arrived, split anywhere, and returns their meaning.
// Events and their contents are valid until the next Feed; they may point into p. The
// error is a *ConnError: handle the events, send the output, then close the connection.
// Pass at most 64 KiB at a time and take the output in between, or the replies to the
// peer's frames count as a flood.
func (c *Conn) Feed(p []byte) ([]Event, error) {
	c.events = c.events[:0]
	c.keepOpenBlock()
	c.in.recycle()
	if c.err == nil {
		c.err = c.feed(p)
		if e, ok := c.err.(*ConnError); ok {
			c.away.sentLast = min(c.away.sentLast, c.lastPeerID)
			_ = c.framer.WriteGoAway(c.away.sentLast, e.Code, []byte(e.Reason))
		}
	}
	return c.events, c.err
}

func (c *Conn) feed(p []byte) error {
	p, err := c.readPreface(p)
	if err != nil {
		return err
	}
	cost := 0
	defer func() { c.charge(cost) }()
	for {
		frame, rest, err := c.in.next(p)
		if err != nil || frame == nil {
			return err
		}
		p = rest
		cost += framing(parseHeader(frame))
		if err := c.frame(frame); err != nil {
			return err
		}
		if c.control > maxControlOut {
			return connErr(EnhanceYourCalm, "too many replies queued: the peer asks and does not read")
		}
	}
}

// Inside reports whether the last Feed ended within a unit whose rest the peer is about
// to send: a frame, a field section, or the message of a stream that began in this Feed
// and has not ended. It ignores streams that began earlier: on a stream with many
// messages the engine cannot know whether one is complete.
func (c *Conn) Inside() bool {
	if len(c.prefaceLeft) > 0 || c.block.stream != 0 || len(c.in.bufs[c.in.cur]) > 0 {
		return true
	}
	begun := uint32(0)
	for i := range c.events {
		switch ev := &c.events[i]; {
		case ev.EndStream || ev.Kind == EventReset:
			if ev.Stream == begun {
				begun = 0
			}
		case ev.Kind == EventHeaders:
			begun = ev.Stream
		}
	}
	return begun != 0
}

// readPreface removes the client's connection preface (RFC 9113 §3.4).
func (c *Conn) readPreface(p []byte) ([]byte, error) {
	n := min(len(p), len(c.prefaceLeft))
	if string(p[:n]) != c.prefaceLeft[:n] {
		return nil, connErr(ProtocolError, "invalid connection preface")
	}
	c.prefaceLeft = c.prefaceLeft[n:]
	return p[n:], nil
}

// TakeOutput returns the bytes to send, or an empty slice. The engine writes its next
// output into the memory of dst, which the caller must not use any more. A caller that
// passes each buffer back in the next call has a double buffer without allocation.
func (c *sender) TakeOutput(dst []byte) []byte {
	out := c.out
	c.out = dst[:0]
	c.control = 0
	return out
}

// OutputLen is the number of bytes that TakeOutput would return.
func (c *sender) OutputLen() int { return len(c.out) }

// OutputOpened reports, once, that WriteData did not take all bytes because the output
// buffer was full, and that it has room again.
func (c *sender) OutputOpened() bool {
	if !c.outBlocked || len(c.out) >= c.cfg.OutputLimit {
		return false
	}
	c.outBlocked = false
	return true
}

// Blocked reports whether WriteData did not take all bytes for a reason that concerns
// all streams, the connection's window or OutputLimit, and neither EventWindowOpened of
// stream 0 nor OutputOpened has followed.
func (c *sender) Blocked() bool { return c.sendBlocked || c.outBlocked }

// Err is the error that ended the connection, or nil.
func (c *base) Err() error { return c.err }

// Streams is the number of streams that are open or half-closed.
func (c *base) Streams() int { return c.streams.Len() }

// header is a frame header (RFC 9113 §4.1).
type header struct {
	length int
	typ    xhttp2.FrameType
	flags  xhttp2.Flags
	stream uint32
}

func parseHeader(b []byte) header {
	return header{
		length: int(b[0])<<16 | int(b[1])<<8 | int(b[2]),
		typ:    xhttp2.FrameType(b[3]),
		flags:  xhttp2.Flags(b[4]),
		stream: binary.BigEndian.Uint32(b[5:]) & maxStreamID,
	}
}

func (c *base) emit(e Event) { c.events = append(c.events, e) }
