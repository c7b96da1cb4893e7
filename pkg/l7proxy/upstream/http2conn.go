package upstream

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/underlane/underlane/pkg/fairshare"
	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/h2conn"
	"github.com/underlane/underlane/pkg/l7proxy/http2"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

// HTTP2Conn is a pooled connection to an endpoint. It carries streams of several client
// connections.
type HTTP2Conn struct {
	*h2conn.Conn
	Result Result
	Took   Took // when it was made
	leg    *leg

	pool      *http2Pool
	key       Key
	client    Client // the only one that may use it, nil if it is shared
	streams   h2conn.Streams[Stream]
	agentDown bool         // it is in plaintext, because no agent answered
	early     int          // how many streams it takes before the endpoint's SETTINGS arrive
	limit     atomic.Int64 // streams that the endpoint allows at once; -1: its SETTINGS have not arrived
	open      atomic.Int64 // streams that are open
	grew      atomic.Int64 // time, by balance.Now, when another connection was made beside it; 0: never

	// The connection's lock guards these.
	unsettled []unsettled
	promised  *waiter   // the one that the next stream is kept for, or nil
	openedAt  time.Time // when the connection's window, which was used up, last opened
	idleSince time.Time
	idleTimer *time.Timer
}

// unsettled is an attempt that waits for the endpoint's SETTINGS.
type unsettled struct {
	stream  Stream
	attempt int32
}

func newHTTP2Conn(p *http2Pool, nc conn.Conn, key Key, result Result, account *fairshare.Account) *HTTP2Conn {
	reader := new(fairshare.Task)
	reader.Charge(account)
	c := h2conn.New(nc, http2.Config{Role: http2.Client, StreamWindow: http2.FirstStreamWindow, ConnWindow: http2Window}, reader)
	h := &HTTP2Conn{
		Conn: c, Result: result, pool: p, key: key, agentDown: result.TLS == tap.TLSAgentDown,
		streams: h2conn.NewStreams[Stream](c), idleSince: time.Now(),
	}
	h.limit.Store(-1)
	return h
}

func (c *HTTP2Conn) serve(idleTimeout time.Duration) {
	c.Lock()
	c.idleTimer = time.AfterFunc(idleTimeout, func() { c.closeIfIdle(idleTimeout) })
	c.Unlock()
	defer c.idleTimer.Stop()
	err := c.Run(c, nil)
	c.leavesPool()
	var b h2conn.Batch
	for _, st := range c.streams.TakeAll() {
		st.ServerGone(c, err, &b)
	}
	for _, w := range c.takeUnsettled() {
		w.stream.Connected(w.attempt, c, mesh.Fail(HTTP2Reason(err), err), &b)
	}
	if c.limit.Load() < 0 { // it ended before its SETTINGS: it has served nothing
		c.pool.lose(c.key, mesh.Fail(HTTP2Reason(err), err), &b)
	}
	c.wake(&b)
	b.Flush()
	c.End()
	c.leg.closed()
}

// HTTP2Reason returns why an HTTP/2 connection to an endpoint ended with err.
func HTTP2Reason(err error) mesh.Reason {
	if _, broken := errors.AsType[*http2.ConnError](err); broken {
		return mesh.ReasonBadResponse
	}
	return ReadReason(err)
}

// leavesPool takes the connection out of the pool, because the endpoint has ended it or
// takes no further stream on it.
func (c *HTTP2Conn) leavesPool() {
	c.pool.remove(c.key, c)
	if c.client != nil {
		c.client.ConnectionEnded()
	}
}

// closeIfIdle closes the connection if it has had no stream for limit. Otherwise it sets
// the timer for the earliest time at which that can be so. A connection that its client
// keeps stays open as long as the client is connected.
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

// retire takes the connection out of the pool, and drains it: its streams may end.
func (c *HTTP2Conn) retire() {
	c.pool.remove(c.key, c)
	c.Drain()
	var b h2conn.Batch
	c.wake(&b)
	b.Flush()
}

// room returns how many more requests the connection takes now: as many as the endpoint
// allows. Until that is known it takes few (early), because the endpoint may refuse
// streams over its limit: one, or none if there are other connections. The caller holds
// the lock.
func (c *HTTP2Conn) room() int {
	if c.Closed() {
		return 0
	}
	most := http2StreamsPerConn
	if _, known := c.Engine.PeerMaxStreams(); !known {
		most = c.early
	}
	return min(c.Engine.MaxOpen(), most-c.Engine.Streams())
}

// load returns how many requests the connection carries if the endpoint sets no limit that
// matters, else 0.
func (c *HTTP2Conn) load() int {
	if c.limit.Load() < http2StreamsPerConn {
		return 0
	}
	return int(c.open.Load())
}

// ErrNoWindow means that the window of the connection is used up, because the endpoint does
// not read the bodies of requests on it.
var ErrNoWindow = errors.New("the connection's window is used up")

// stalled reports whether the connection has no window for a body. The caller holds the
// lock.
func (c *HTTP2Conn) stalled() bool {
	send, _ := c.Engine.Windows()
	return send == 0
}

// promise keeps a stream for w until withdraw, unless it returns
// http2.ErrTooManyStreams or ErrNoWindow. It does not return ErrNoWindow if the endpoint
// has read something since w began to wait: each body gets its turn then. Only one stream
// is promised at a time.
func (c *HTTP2Conn) promise(w *waiter) error {
	c.Lock()
	defer c.Unlock()
	switch {
	case c.room() <= 0:
		return http2.ErrTooManyStreams
	case !w.bodyless && c.stalled() && !c.openedAt.After(w.since):
		return ErrNoWindow
	}
	c.promised = w
	return nil
}

// withdraw undoes promise.
func (c *HTTP2Conn) withdraw() {
	c.Lock()
	defer c.Unlock()
	c.promised = nil
}

// Open starts a request on the connection, for an attempt of st. The error is ErrNoWindow,
// http2.ErrTooManyStreams, ErrGoingAway, ErrHeaderTooLarge, ErrNoConnectProtocol, or
// ErrNoSettings: then Connected is called when the SETTINGS have arrived.
func (c *HTTP2Conn) Open(st Stream, attempt int32, fields []http2.Field, bodyless bool, b *h2conn.Batch) (uint32, error) {
	c.Lock()
	defer c.Unlock()
	if c.Closed() {
		return 0, http2.ErrGoingAway
	}
	room, w := c.room(), c.promised
	promised := w != nil && w.stream == st && w.attempt == attempt
	if w != nil && !promised {
		room--
	}
	switch {
	case room <= 0:
		return 0, http2.ErrTooManyStreams
	case !promised && !bodyless && c.stalled():
		return 0, ErrNoWindow
	}
	id, err := c.Engine.OpenStream(fields, bodyless)
	if err != nil {
		if errors.Is(err, http2.ErrNoSettings) {
			c.unsettled = append(c.unsettled, unsettled{st, attempt})
		}
		return 0, err
	}
	c.streams.Put(id, st)
	c.open.Store(int64(c.streams.Len()))
	b.Add(c.Conn)
	return id, nil
}

func (c *HTTP2Conn) takeUnsettled() []unsettled {
	c.Lock()
	defer c.Unlock()
	all := c.unsettled
	c.unsettled = nil
	return all
}

// settled records the limit of streams that the endpoint has set.
func (c *HTTP2Conn) settled() {
	c.Lock()
	n, _ := c.Engine.PeerMaxStreams()
	c.Unlock()
	c.limit.Store(int64(min(n, http2StreamsPerConn)))
}

// opened records that the connection's window has opened.
func (c *HTTP2Conn) opened(b *h2conn.Batch) {
	c.Lock()
	c.openedAt = time.Now()
	c.Unlock()
	c.wake(b)
}

// Leave removes a stream from the connection.
func (c *HTTP2Conn) Leave(id uint32, b *h2conn.Batch) {
	c.Lock()
	c.streams.Delete(id)
	c.open.Store(int64(c.streams.Len()))
	if c.streams.Len() == 0 {
		c.idleSince = time.Now()
	}
	c.Unlock()
	b.Add(c.Conn) // after the last stream the flusher closes a connection that drains
	c.wake(b)
}

// Event implements h2conn.Owner.
func (c *HTTP2Conn) Event(ev *http2.Event, b *h2conn.Batch) {
	switch ev.Kind {
	case http2.EventGoAway:
		c.leavesPool()
		c.wake(b)
		return
	case http2.EventSettings:
		c.settled()
		for _, w := range c.takeUnsettled() {
			w.stream.Connected(w.attempt, c, nil, b)
		}
		c.wake(b)
		return
	case http2.EventWindowOpened:
		if ev.Stream == 0 {
			c.opened(b)
			return
		}
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
