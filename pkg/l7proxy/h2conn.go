package l7proxy

import (
	"slices"
	"sync"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/http2"
	"github.com/underlane/underlane/pkg/rawio"
)

// The HTTP/2 driver moves streams between a client's connection and upstream
// connections that many clients' streams share.
//
// Goroutines: each connection has one reader, which feeds its engine and hands
// the events straight to the stream they are for, writing into the other
// connection's engine. When it has handled what one read brought it sends what
// has come of that (h2send.go), as far as the sockets take it at once. Each
// connection's flusher waits for the sockets that do not, and so nobody else.
// What takes its time, as a delay, a time-out or the wait before a retry, is a
// timer (h2timer.go), and what comes of the stream meanwhile waits in its pipe.
//
// Locks, in this order: h2stream.mu, that of a copy of it (h2mirror.go), then
// one of h2conn.mu or h2Pool.mu. No two connections' locks are ever held
// together, and none across a system call. Engine and maps of a connection are
// under its mu; but what a Feed returned belongs to the reader, the only one
// that feeds.
//
// Back-pressure: a stream's bytes that the other side does not take yet wait
// in its h2pipe, and their window is given back only as they leave it, so a
// stream holds at most one receive window.

const (
	h2ReadSize   = 32 << 10
	h2KeepBuffer = 16 << 10 // output buffers above this are not kept by an idle connection
	// h2UpstreamWindow is the window of a connection that many clients share: a
	// few that do not read must not stop the others.
	h2UpstreamWindow = 4 << 20
	h2Linger         = 2 * time.Second // how long the peer has to close after we did
)

// h2owner is told what arrives on a connection.
type h2owner interface {
	event(ev *http2.Event, b *h2batch)
}

// h2conn is one HTTP/2 connection and its engine.
type h2conn struct {
	nc     Conn
	raw    *rawio.Conn // below nc; nil: only the flusher writes
	mu     sync.Mutex
	wake   sync.Cond // the flusher waits for output
	engine *http2.Conn

	inside  bool // what was fed ended inside a message; the reader's
	streams map[uint32]*h2stream
	waiting []*h2pipe      // turned away by the connection, not by their own window; first come first served
	closed  bool           // no more reading, or a write failed
	writing bool           // somebody writes to nc, without mu
	behind  bool           // raw has a backlog
	opened  func(*h2batch) // lets go on what the connection turned away: resume, or another's
	flushed chan struct{}
}

func newH2Conn(nc Conn, config http2.Config) *h2conn {
	c := &h2conn{
		nc:      nc,
		raw:     rawOf(nc),
		engine:  http2.New(config),
		streams: make(map[uint32]*h2stream),
		flushed: make(chan struct{}),
	}
	c.wake.L, c.opened = &c.mu, c.resume
	if c.raw != nil {
		c.raw.Impatient()
	}
	return c
}

// h2batch collects the connections that got output while one wake-up was
// handled, so that each is flushed once.
type h2batch struct {
	dirty  []*h2conn
	edited []http2.Field // memory of a head that the routes change
}

func (b *h2batch) add(c *h2conn) {
	if !slices.Contains(b.dirty, c) {
		b.dirty = append(b.dirty, c)
	}
}

func (b *h2batch) flush() {
	for i, c := range b.dirty {
		c.send()
		b.dirty[i] = nil
	}
	b.dirty = b.dirty[:0]
}

// read feeds the engine until the connection ends; head comes first. The error
// is an *http2.ConnError if the peer broke the protocol.
func (c *h2conn) read(owner h2owner, head []byte) error {
	var batch h2batch
	for len(head) > 0 {
		n := min(len(head), h2ReadSize)
		if err := c.feed(owner, head[:n], &batch); err != nil {
			return err
		}
		head = head[n:]
	}
	buf := make([]byte, h2ReadSize)
	for {
		n, err := c.nc.Read(buf)
		if n > 0 {
			if err := c.feed(owner, buf[:n], &batch); err != nil {
				return err
			}
			if c.inside {
				awaitRest(c.nc, n)
			}
		}
		if err != nil {
			return err
		}
	}
}

func (c *h2conn) feed(owner h2owner, p []byte, b *h2batch) error {
	c.mu.Lock()
	events, err := c.engine.Feed(p)
	c.inside = c.engine.Inside()
	c.mu.Unlock()
	b.add(c)
	for i := range events {
		owner.event(&events[i], b)
	}
	b.flush()
	return err
}

// finish closes a connection whose work is done: a FIN first, so that what was
// sent is not lost to a reset, and the reader waits for the peer's.
func (c *h2conn) finish() {
	_ = c.nc.SetReadDeadline(time.Now().Add(h2Linger))
	if c.raw != nil {
		c.raw.SetPatient(true) // nobody else writes any more
	}
	if c.nc.CloseWrite() != nil {
		c.nc.Close()
	}
}

// end stops the flusher after it wrote what is queued, for which the socket
// has a moment, and closes the connection. The reader calls it last.
func (c *h2conn) end() {
	_ = c.nc.SetWriteDeadline(time.Now().Add(h2Linger))
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.wake.Signal()
	<-c.flushed
	c.nc.Close()
}

// takeStreams marks the connection closed, so that no stream joins it any
// more, and returns those that it carried.
func (c *h2conn) takeStreams() []*h2stream {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	var all []*h2stream
	for id, st := range c.streams {
		all = append(all, st)
		delete(c.streams, id)
	}
	return all
}

func (c *h2conn) stream(id uint32) *h2stream {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.streams[id]
}

// forget takes a stream out of the map; its events are nobody's from then on.
func (c *h2conn) forget(id uint32, b *h2batch) {
	c.mu.Lock()
	delete(c.streams, id)
	c.mu.Unlock()
	b.add(c) // the flusher closes a drained connection after its last stream
}

func (c *h2conn) reset(id uint32, code http2.ErrCode, b *h2batch) {
	c.mu.Lock()
	c.engine.WriteReset(id, code)
	c.mu.Unlock()
	b.add(c)
}

func (c *h2conn) headers(id uint32, fields []http2.Field, end bool, b *h2batch) error {
	c.mu.Lock()
	err := c.engine.WriteHeaders(id, fields, end)
	c.mu.Unlock()
	b.add(c)
	return err
}

func (c *h2conn) drain() {
	c.mu.Lock()
	c.engine.Drain()
	c.mu.Unlock()
	c.wake.Signal()
}

// resume lets pipes go on that the connection turned away, each in its turn,
// until it is full again.
func (c *h2conn) resume(b *h2batch) {
	for {
		c.mu.Lock()
		if len(c.waiting) == 0 || c.engine.Blocked() {
			c.mu.Unlock()
			return
		}
		p := c.waiting[0]
		c.waiting[0] = nil
		if c.waiting = c.waiting[1:]; len(c.waiting) == 0 {
			c.waiting = nil
		}
		p.waiting = false
		c.mu.Unlock()

		p.stream.mu.Lock()
		p.push(b)
		p.stream.settle(b)
		p.stream.mu.Unlock()
	}
}
