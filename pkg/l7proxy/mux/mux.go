// Package mux carries many connections on one mTLS connection between two agents. The
// connections of one client workload to one endpoint are streams of a few shared
// connections: those of HTTP/1, and on others opaque ones. What several streams write at the
// same time goes out in one record and one system call, and a new stream needs no handshake.
// The bytes are not changed. A stream is an HTTP/2 CONNECT (RFC 9113 §8.5) with HTTP/2's
// windows. The drivers use it like any connection.
//
// The authority of the CONNECT is http:80 for HTTP/1. For an opaque connection it is tcp and
// the client's port, which the application sees.
package mux

import (
	"strconv"
	"strings"
	"time"

	"github.com/underlane/underlane/pkg/fairshare"
	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/h2conn"
	"github.com/underlane/underlane/pkg/l7proxy/http2"
	"github.com/underlane/underlane/pkg/mtls"
)

// MaxStreams is the number of streams of one shared connection. The connection's window
// covers the windows of all of them, so that a stream that is not read does not stop the
// others.
const MaxStreams = 64

var (
	openFields = []http2.Field{{Name: ":method", Value: "CONNECT"}, {Name: ":authority", Value: "http:80"}}
	okFields   = []http2.Field{{Name: ":status", Value: "200"}}
)

// Kind is what the streams of a shared connection are.
type Kind uint8

// The kinds.
const (
	HTTP1 Kind = iota
	// Opaque streams begin when the peer has accepted them, with small windows, which grow.
	Opaque
)

// Conn is one end of a shared connection.
type Conn struct {
	*h2conn.Conn
	// Proof is what the handshake has proved of the peer. Set it before Run; nil: it is not
	// known.
	Proof *mtls.Proof

	kind      Kind
	windows   windows // of its streams; it is not changed
	made      time.Time
	accept    func(*Stream) // server: takes a new stream; it must not wait
	goingAway func()        // client: called when the peer accepts no further stream
	vain      func(cost int, ended bool) time.Duration

	open h2conn.Streams[*Stream]
	idle time.Time // time when the last stream ended

	moves    int    // streams that were to move to other connections
	reported uint32 // retransmits; see Stream.Wire
}

// NewClient makes the end that opens streams. goingAway is called when the peer accepts
// no further stream.
// account, if it is not nil, is charged with the processor time.
func NewClient(kind Kind, nc conn.Conn, account *fairshare.Account, goingAway func()) *Conn {
	task := new(fairshare.Task)
	task.Charge(account)
	c := newConn(kind, nc, http2.Client, task)
	c.goingAway = goingAway
	return c
}

// NewServer makes the end that accepts streams. accept is called for each, and must not
// wait. reader is the Task of the goroutine that calls Run.
func NewServer(kind Kind, nc conn.Conn, reader *fairshare.Task, accept func(*Stream)) *Conn {
	c := newConn(kind, nc, http2.Server, reader)
	c.accept = accept
	return c
}

// OnVain has f called for each stream that the peer has reset before it took what was written to
// it, or anything at all. When the connection has ended, f is called for each that was open and
// had written more than the peer took. cost says how many streams of HTTP/2 whose requests are
// given up it costs as much as. What the peer sends next is read after the time that f returns.
// Call it before Run.
func (c *Conn) OnVain(f func(cost int, ended bool) (wait time.Duration)) { c.vain = f }

func newConn(kind Kind, nc conn.Conn, role http2.Role, reader *fairshare.Task) *Conn {
	config := http2.Config{Role: role, MaxStreams: MaxStreams, ConnWindow: MaxStreams * windowMost}
	config.Resets.Burst = -1 // the peer is an agent, and one client of many must not cut the others' streams
	of := windowsOf[kind]
	config.StreamWindow = of.first
	if kind == Opaque {
		config.FrameFits = recordSize
		if raw := nc.Raw(); raw != nil {
			of = of.over(raw.Now().MinRTT)
		}
	}
	c := h2conn.New(nc, config, reader)
	c.Bulk = kind == Opaque
	now := time.Now()
	return &Conn{Conn: c, kind: kind, windows: of, made: now, open: h2conn.NewStreams[*Stream](c), idle: now}
}

// Age is how long ago the connection was made.
func (c *Conn) Age() time.Duration { return time.Since(c.made) }

// recordSize is the most that a record of TLS holds (RFC 8446 §5.1).
const recordSize = 16 << 10

// Run carries the connection until it ends, and then fails its streams. head has bytes that
// were read already. The caller calls End when the streams have been served.
func (c *Conn) Run(head []byte) error {
	err := c.Conn.Run(c, head)
	for _, s := range c.open.TakeAll() {
		c.Lock()
		short := s.short
		c.Unlock()
		if short && c.vain != nil {
			c.vain(servedCost, true)
		}
		s.fail(conn.EOFIsTruncation(err))
	}
	return err
}

// Open opens a stream. It returns nil if the connection accepts no further one.
func (c *Conn) Open() *Stream { return c.openWith(openFields) }

const opaqueAuthority = "tcp:"

// OpenOpaque is Open for an opaque connection, of a client with this port.
func (c *Conn) OpenOpaque(port uint16) *Stream {
	return c.openWith([]http2.Field{openFields[0], {Name: ":authority", Value: opaqueAuthority + strconv.Itoa(int(port))}})
}

func (c *Conn) openWith(fields []http2.Field) *Stream {
	c.Lock()
	defer c.Unlock()
	if c.Closed() || c.Engine.Streams() >= MaxStreams {
		return nil
	}
	id, err := c.Engine.OpenStream(fields, false) // it goes out with the first bytes
	if err != nil {
		return nil
	}
	s := newStream(c, id)
	s.Port = portOf(fields)
	if c.kind == Opaque {
		s.answer.done = make(chan struct{})
	}
	c.open.Put(id, s)
	return s
}

// portOf is the client's port of an opaque connection that the peer opens with fields; 0 if
// it is none.
func portOf(fields []http2.Field) uint16 {
	for i := range fields {
		if fields[i].Name == ":authority" {
			port, opaque := strings.CutPrefix(fields[i].Value, opaqueAuthority)
			if n, err := strconv.ParseUint(port, 10, 16); opaque && err == nil {
				return uint16(n)
			}
		}
	}
	return 0
}

// forget removes a stream from the connection.
func (c *Conn) forget(id uint32) {
	c.Lock()
	c.open.Delete(id)
	if c.open.Len() == 0 {
		c.idle = time.Now()
	}
	c.Unlock()
}

// Streams is the number of streams that are open.
func (c *Conn) Streams() int {
	c.Lock()
	defer c.Unlock()
	return c.open.Len()
}

// IdleFor is how long the connection has had no stream.
func (c *Conn) IdleFor() time.Duration {
	c.Lock()
	defer c.Unlock()
	if c.open.Len() > 0 {
		return 0
	}
	return time.Since(c.idle)
}

// Event implements h2conn.Owner.
func (c *Conn) Event(ev *http2.Event, b *h2conn.Batch) {
	s, _ := c.open.Get(ev.Stream)
	switch ev.Kind {
	case http2.EventGoAway:
		if c.goingAway != nil {
			c.goingAway()
		}
	case http2.EventHeaders:
		switch {
		case s == nil && c.accept != nil && !ev.Trailers:
			s = c.take(ev.Stream, ev.Fields, b)
			c.accept(s)
		case s == nil:
			return
		case c.accept == nil && !ev.Trailers:
			s.answer.give(Accepted)
		}
		if ev.EndStream {
			s.deliver(nil, endingOf(ev))
		}
	case http2.EventMalformed:
		c.Reset(ev.Stream, http2.ProtocolError, b)
	case http2.EventData:
		if s != nil {
			s.deliver(ev.Payload, endingOf(ev))
			return
		}
		c.Consume(ev.Stream, len(ev.Payload))
		if len(ev.Payload) > 0 {
			c.Reset(ev.Stream, http2.Cancel, b) // the stream was closed at this end
		}
	case http2.EventReset:
		if s != nil {
			c.countVain(s, b) // before fail, which has the stream's writer try again
			s.failAs(errReset, answerOf(ev))
		}
	case http2.EventWindowOpened:
		if s != nil {
			s.Resume(b)
		}
	}
}

// servedCost is the cost of a stream in vain for which a server has worked: it was connected to,
// or has written more than the peer took. That costs about 0.3 ms here, and the server as much.
const servedCost = 40

func (c *Conn) countVain(s *Stream, b *h2conn.Batch) {
	if c.vain == nil {
		return
	}
	c.Lock()
	accepted, wrote, short := s.Port != 0 && !s.opens, s.wrote, s.short
	c.Unlock()
	switch {
	case short || accepted && !wrote:
		b.Pause(c.vain(servedCost, false))
	case !wrote:
		b.Pause(c.vain(1, false))
	}
}

// take takes in a stream that the peer has opened with fields.
func (c *Conn) take(id uint32, fields []http2.Field, b *h2conn.Batch) *Stream {
	s := newStream(c, id)
	s.Port = portOf(fields)
	s.opens = s.Port != 0
	c.Lock()
	c.open.Put(id, s)
	if !s.opens {
		_ = c.Engine.WriteHeaders(id, okFields, false)
	}
	c.Unlock()
	b.Add(c.Conn)
	return s
}

// begin writes the head of a stream that the peer has opened, which accepts it. The caller
// holds the lock.
func (c *Conn) begin(s *Stream) {
	if s.opens {
		s.opens = false
		_ = c.Engine.WriteHeaders(s.id, okFields, false)
	}
}

// offer writes as much of p as the windows allow now. waits says that the writer waits until
// goOn has written the rest.
func (c *Conn) offer(s *Stream, p []byte, waits bool) (int, error) {
	c.Lock()
	c.begin(s)
	n, err := c.Engine.WriteData(s.id, p, false)
	s.wrote, s.short = s.wrote || n > 0, n < len(p)
	if err == nil && n < len(p) {
		c.AwaitRoom(s, &s.queued)
		if waits {
			s.pending = p[n:]
		}
	}
	c.Unlock()
	if c.kind == Opaque {
		h2conn.SendAll(c.Conn)
	} else {
		c.Send()
	}
	return n, err
}

// goOn writes what a stream has pending, as much as the windows allow now. It reports whether the
// stream's writer is to wake up: all is written, or nothing can be.
func (c *Conn) goOn(s *Stream, b *h2conn.Batch) bool {
	c.Lock()
	defer c.Unlock()
	if len(s.pending) == 0 {
		return true
	}
	n, err := c.Engine.WriteData(s.id, s.pending, false)
	s.wrote, s.short = s.wrote || n > 0, n < len(s.pending)
	b.Add(c.Conn)
	if s.pending = s.pending[n:]; err != nil || len(s.pending) == 0 {
		return true
	}
	c.AwaitRoom(s, &s.queued)
	return false
}

// finishWriting ends this side of a stream.
func (c *Conn) finishWriting(s *Stream) error {
	c.Lock()
	c.begin(s)
	_, err := c.Engine.WriteData(s.id, nil, true)
	c.Unlock()
	c.Send()
	return err
}

// leave ends a stream in order: this side with END_STREAM if end is set, and the peer's by
// RST_STREAM with NO_ERROR (RFC 9113 §8.1). What the peer still sends is dropped.
func (c *Conn) leave(s *Stream, end bool) {
	c.Lock()
	if end {
		c.begin(s)
		_, _ = c.Engine.WriteData(s.id, nil, true)
	}
	c.Engine.WriteReset(s.id, http2.NoError)
	c.Unlock()
	c.Send()
}

// cancel resets a stream.
func (c *Conn) cancel(id uint32, code http2.ErrCode) {
	c.Lock()
	c.Engine.WriteReset(id, code)
	c.Unlock()
	c.Send()
}
