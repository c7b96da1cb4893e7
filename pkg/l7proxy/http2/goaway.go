package http2

import (
	"slices"

	xhttp2 "golang.org/x/net/http2"
)

// awayState is the state of the connection's shutdown (RFC 9113 §6.8).
type awayState struct {
	draining bool   // Drain was called
	sent     bool   // a GOAWAY with the final last stream id was sent
	sentLast uint32 // that id: frames for the peer's streams above it are discarded
	received bool
	recvLast uint32 // our streams above it were not processed
}

// discards reports whether frames for the peer's stream are discarded, because our
// GOAWAY excludes it.
func (a *awayState) discards(id uint32) bool { return a.sent && id > a.sentLast }

var (
	pingProbe = [8]byte{'u', 'l', 'p', 'r', 'o', 'b', 'e', 0}
	pingDrain = [8]byte{'u', 'l', 'd', 'r', 'a', 'i', 'n', 0}
)

// Drain ends the connection without losing a request. In the server role a first GOAWAY
// excludes no stream, and a PING follows. Streams that the peer opens before it sees them
// are still served. When it answers the PING, the final GOAWAY is sent. In the client
// role no further stream can be opened. Done reports when the connection can be closed.
func (c *guard) Drain() {
	if c.away.draining || c.err != nil {
		return
	}
	c.away.draining = true
	if c.cfg.Role == Client {
		c.sendGoAway()
		return
	}
	_ = c.framer.WriteGoAway(maxStreamID, NoError, nil)
	_ = c.framer.WritePing(false, pingDrain)
}

func (c *guard) finishDrain() {
	if c.away.draining && !c.away.sent {
		c.sendGoAway()
	}
}

func (c *guard) sendGoAway() {
	c.away.sent = true
	c.away.sentLast = min(c.away.sentLast, c.lastPeerID) // it must not increase
	_ = c.framer.WriteGoAway(c.away.sentLast, NoError, nil)
}

// Draining reports whether the connection accepts no further stream, because either end
// has sent GOAWAY or the connection has failed.
func (c *guard) Draining() bool { return c.away.draining || c.away.received || c.err != nil }

// Done reports whether the connection can be closed after its output is sent.
func (c *guard) Done() bool {
	if c.err != nil {
		return true
	}
	return c.streams.Len() == 0 && (c.away.sent || c.away.received && c.cfg.Role == Client)
}

// Ping sends a PING. The peer's answer is EventPingAck.
func (c *guard) Ping() {
	if c.err == nil {
		_ = c.framer.WritePing(false, pingProbe)
	}
}

func (c *guard) goAwayFrame(f *xhttp2.GoAwayFrame) error {
	lowered := f.LastStreamID < c.away.recvLast
	c.away.received = true
	// It must not increase (§6.8). If it does, the smaller one stays valid.
	c.away.recvLast = min(c.away.recvLast, f.LastStreamID)
	c.emit(Event{Kind: EventGoAway, LastStream: c.away.recvLast, Code: f.ErrCode})
	if c.cfg.Role == Server || !lowered {
		return nil
	}
	var excluded []uint32
	for id := range c.streams.All() {
		if id > c.away.recvLast {
			excluded = append(excluded, id)
		}
	}
	slices.Sort(excluded) // the order of events must not depend on the table
	for _, id := range excluded {
		s := c.stream(id)
		c.closeStream(s, closedByUs)
		c.emit(Event{Kind: EventReset, Stream: id, Code: RefusedStream, Retryable: !s.gotHeaders, GoingAway: true})
	}
	return nil
}
