// Package mux makes shared connections of HTTP/1 between two agents. The HTTP/1
// connections of one client workload to one endpoint are streams of shared mTLS
// connections: what many of them write at a time goes out in one record by one
// system call, and a new one costs no handshake. The bytes are HTTP/1's as they are.
// A stream is an HTTP/2 CONNECT (RFC 9113 §8.5), with HTTP/2's windows, and to the
// HTTP/1 driver it is a connection like any other.
package mux

import (
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/h2conn"
	"github.com/underlane/underlane/pkg/l7proxy/http2"
)

// MaxStreams are the streams of one shared connection. All of their windows fit into
// the connection's: none that is not read stops the others.
const MaxStreams = 64

var (
	openFields = []http2.Field{{Name: ":method", Value: "CONNECT"}, {Name: ":authority", Value: "http:80"}}
	okFields   = []http2.Field{{Name: ":status", Value: "200"}}
)

// Conn is one end of a shared connection.
type Conn struct {
	*h2conn.Conn
	accept    func(*Stream) // server: what a new stream is given to; it must not wait
	goingAway func()        // client: called when the peer takes no further stream

	open h2conn.Streams[*Stream]
	idle time.Time // since when there is no stream
}

// NewClient makes the end that opens streams. goingAway is called when the peer
// takes no further one.
func NewClient(nc conn.Conn, goingAway func()) *Conn {
	c := newConn(nc, http2.Client)
	c.goingAway = goingAway
	return c
}

// NewServer makes the end that accepts streams. accept is given each and must not
// wait.
func NewServer(nc conn.Conn, accept func(*Stream)) *Conn {
	c := newConn(nc, http2.Server)
	c.accept = accept
	return c
}

func newConn(nc conn.Conn, role http2.Role) *Conn {
	config := http2.Config{Role: role, MaxStreams: MaxStreams, ConnWindow: MaxStreams * http2.DefaultStreamWindow}
	config.Resets.Burst = -1 // the peer is an agent, and one client of many must not cut the others' streams
	c := h2conn.New(nc, config)
	return &Conn{Conn: c, open: h2conn.NewStreams[*Stream](c), idle: time.Now()}
}

// Run carries the connection to its end, which is that of its streams. head are
// bytes that were read already. End is to be called when the streams are served.
func (c *Conn) Run(head []byte) error {
	err := c.Conn.Run(c, head)
	for _, s := range c.open.TakeAll() {
		s.fail(conn.EOFIsTruncation(err))
	}
	return err
}

// Open opens a stream. It returns nil if the connection takes no more.
func (c *Conn) Open() *Stream {
	c.Lock()
	defer c.Unlock()
	if c.Closed() || c.Engine.Streams() >= MaxStreams {
		return nil
	}
	id, err := c.Engine.OpenStream(openFields, false) // it goes out with the first bytes
	if err != nil {
		return nil
	}
	s := newStream(c, id)
	c.open.Put(id, s)
	return s
}

// forget takes a stream off the connection.
func (c *Conn) forget(id uint32) {
	c.Lock()
	c.open.Delete(id)
	if c.open.Len() == 0 {
		c.idle = time.Now()
	}
	c.Unlock()
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
			s = c.take(ev.Stream, b)
			c.accept(s)
		case s == nil:
			return
		}
		if ev.EndStream {
			s.deliver(nil, true)
		}
	case http2.EventMalformed:
		c.Reset(ev.Stream, http2.ProtocolError, b)
	case http2.EventData:
		if s != nil {
			s.deliver(ev.Payload, ev.EndStream)
			return
		}
		c.Consume(ev.Stream, len(ev.Payload))
		if len(ev.Payload) > 0 {
			c.Reset(ev.Stream, http2.Cancel, b) // nobody reads it any more
		}
	case http2.EventReset:
		if s != nil {
			s.fail(errReset)
		}
	case http2.EventWindowOpened:
		if s != nil {
			s.Resume(b)
		}
	}
}

// take makes a stream of one that the peer opened.
func (c *Conn) take(id uint32, b *h2conn.Batch) *Stream {
	s := newStream(c, id)
	c.Lock()
	c.open.Put(id, s)
	_ = c.Engine.WriteHeaders(id, okFields, false)
	c.Unlock()
	b.Add(c.Conn)
	return s
}

// offer writes as much of p as the windows take now.
func (c *Conn) offer(s *Stream, p []byte) (int, error) {
	c.Lock()
	n, err := c.Engine.WriteData(s.id, p, false)
	if err == nil && n < len(p) {
		c.AwaitRoom(s, &s.queued)
	}
	c.Unlock()
	c.Send()
	return n, err
}

// finishWriting ends this side of a stream.
func (c *Conn) finishWriting(id uint32) error {
	c.Lock()
	_, err := c.Engine.WriteData(id, nil, true)
	c.Unlock()
	c.Send()
	return err
}

// leave ends both sides of a stream in order, this one's as well if end is set:
// what the peer still says is dropped (NO_ERROR, RFC 9113 §8.1).
func (c *Conn) leave(id uint32, end bool) {
	c.Lock()
	if end {
		_, _ = c.Engine.WriteData(id, nil, true)
	}
	c.Engine.WriteReset(id, http2.NoError)
	c.Unlock()
	c.Send()
}

// cancel resets a stream.
func (c *Conn) cancel(id uint32) {
	c.Lock()
	c.Engine.WriteReset(id, http2.Cancel)
	c.Unlock()
	c.Send()
}
