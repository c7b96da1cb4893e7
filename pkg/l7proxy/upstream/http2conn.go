package upstream

import (
	"errors"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/h2conn"
	"github.com/underlane/underlane/pkg/l7proxy/http2"
	"github.com/underlane/underlane/pkg/mesh"
)

// HTTP2Conn is a pooled connection to an endpoint, with streams of many clients'
// connections on it.
type HTTP2Conn struct {
	*h2conn.Conn
	Result Result

	pool    *http2Pool
	key     Key
	client  Client // whose alone it is, nil if it is shared
	streams h2conn.Streams[Stream]

	// The connection's lock guards these.
	unsettled []waiter // for the endpoint's settings
	idleSince time.Time
	idleTimer *time.Timer
}

func newHTTP2Conn(p *http2Pool, nc conn.Conn, key Key, result Result) *HTTP2Conn {
	c := h2conn.New(nc, http2.Config{Role: http2.Client, ConnWindow: http2Window})
	return &HTTP2Conn{
		Conn: c, Result: result, pool: p, key: key,
		streams: h2conn.NewStreams[Stream](c), idleSince: time.Now(),
	}
}

func (c *HTTP2Conn) serve(idleTimeout time.Duration) {
	c.Lock()
	c.idleTimer = time.AfterFunc(idleTimeout, func() { c.closeIfIdle(idleTimeout) })
	c.Unlock()
	defer c.idleTimer.Stop()
	err := c.Run(c, nil)
	c.pool.remove(c.key, c)
	var b h2conn.Batch
	for _, st := range c.streams.TakeAll() {
		st.ServerGone(c, err, &b)
	}
	for _, w := range c.takeUnsettled() {
		w.stream.Connected(w.attempt, c, mesh.Fail(HTTP2Reason(err), err), &b)
	}
	b.Flush()
	c.End()
}

// HTTP2Reason is why a connection to an endpoint ended.
func HTTP2Reason(err error) mesh.Reason {
	if _, broken := errors.AsType[*http2.ConnError](err); broken {
		return mesh.ReasonBadResponse
	}
	return ReadReason(err)
}

// closeIfIdle closes the connection when it has had no stream for limit, and
// looks again when that may be. A login is kept as long as its client is there.
func (c *HTTP2Conn) closeIfIdle(limit time.Duration) {
	kept := c.client != nil && c.client.KeepsConnections()
	c.Lock()
	left := limit
	if c.streams.Len() == 0 && !kept {
		left = limit - time.Since(c.idleSince)
	}
	if left > 0 {
		c.idleTimer.Reset(left)
		c.Unlock()
		return
	}
	c.Unlock()
	c.retire()
}

// retire takes the connection out of use: its streams are finished.
func (c *HTTP2Conn) retire() {
	c.pool.remove(c.key, c)
	c.Drain()
}

// Open starts a request on the connection, for an attempt of st. The error is the
// engine's: http2.ErrTooManyStreams, ErrGoingAway, ErrHeaderTooLarge,
// ErrNoConnectProtocol, or ErrNoSettings: Connected is called as soon as they are
// there.
func (c *HTTP2Conn) Open(st Stream, attempt int32, fields []http2.Field, bodyless bool, b *h2conn.Batch) (uint32, error) {
	c.Lock()
	defer c.Unlock()
	if c.Closed() {
		return 0, http2.ErrGoingAway
	}
	if c.streams.Len() >= http2StreamsPerConn {
		return 0, http2.ErrTooManyStreams
	}
	id, err := c.Engine.OpenStream(fields, bodyless)
	if err != nil {
		if errors.Is(err, http2.ErrNoSettings) {
			c.unsettled = append(c.unsettled, waiter{st, attempt})
		}
		return 0, err
	}
	c.streams.Put(id, st)
	b.Add(c.Conn)
	return id, nil
}

func (c *HTTP2Conn) takeUnsettled() []waiter {
	c.Lock()
	defer c.Unlock()
	all := c.unsettled
	c.unsettled = nil
	return all
}

// Leave takes a stream off the connection.
func (c *HTTP2Conn) Leave(id uint32, b *h2conn.Batch) {
	c.Lock()
	c.streams.Delete(id)
	if c.streams.Len() == 0 {
		c.idleSince = time.Now()
	}
	c.Unlock()
	b.Add(c.Conn) // its flusher closes a drained connection after the last stream
}

// Event implements h2conn.Owner.
func (c *HTTP2Conn) Event(ev *http2.Event, b *h2conn.Batch) {
	switch ev.Kind {
	case http2.EventGoAway:
		c.pool.remove(c.key, c)
		return
	case http2.EventSettings:
		for _, w := range c.takeUnsettled() {
			w.stream.Connected(w.attempt, c, nil, b)
		}
		return
	}
	st, ok := c.streams.Get(ev.Stream)
	if !ok {
		if ev.Kind == http2.EventData {
			c.Consume(ev.Stream, len(ev.Payload))
		}
		return
	}
	switch ev.Kind {
	case http2.EventHeaders:
		st.ServerHeaders(c, ev, b)
	case http2.EventData:
		st.ServerData(c, ev, b)
	case http2.EventReset:
		st.ServerReset(c, ev, b)
	case http2.EventWindowOpened:
		st.ServerRoom(b)
	}
}
