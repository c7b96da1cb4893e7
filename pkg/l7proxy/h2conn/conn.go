// Package h2conn carries one HTTP/2 connection: it moves bytes between a byte stream
// and the engine, and hands the engine's events to an owner.
//
// Goroutines: a connection has a reader and a flusher. The reader feeds the engine and
// hands the events to their streams, which write into the engines of other connections.
// After each read it sends the output that resulted, on all of these connections, as far
// as the sockets take it at once (send.go). A flusher waits for its socket, so that
// readers never wait.
//
// Locks: a connection's lock guards its engine and its table of streams. The events of a
// Feed belong to the reader, which is the only caller of Feed. No goroutine holds two
// connections' locks at once, or a lock during a system call or a call to the owner.
//
// The end of a connection is in end.go.
package h2conn

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/underlane/underlane/pkg/fairshare"
	"github.com/underlane/underlane/pkg/l7proxy/balance"
	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/http2"
	"github.com/underlane/underlane/pkg/rawio"
)

const (
	readSize = 32 << 10
	// With Bulk, readBulk is the size after a read has filled readSize, and after a read of
	// readMoreFrom more is likely to have arrived.
	readBulk     = 64 << 10
	readMoreFrom = 8 << 10
	// watchFrom is the read from which on Hangups watch the connection: to watch it costs as much
	// as two reads that find nothing.
	watchFrom = 8
	// pieceTime is about how long the engine is fed at once under contention, pieceFirst
	// how many bytes at first, and pieceLeast the fewest. With Bulk there are never fewer than at
	// first: gathered joins small payloads of one piece.
	pieceTime  = 200 * time.Microsecond
	pieceFirst = 2 << 10
	pieceLeast = 512
)

// Owner takes the events of a connection. Its method must not wait.
type Owner interface {
	Event(ev *http2.Event, b *Batch)
}

// Source is an account of framing, as quota.Usage is.
type Source interface {
	// Framed counts n bytes of framing at now (http2.Conn.Framed), and returns how long the
	// connection is to wait before it is read again.
	Framed(now time.Duration, n int) time.Duration
}

// Waiter is a writer that waits for room on a connection: the connection's window or its
// output buffer was full.
type Waiter interface {
	// Resume has the waiter write on. It is called without a lock.
	Resume(b *Batch)
}

// Conn is one HTTP/2 connection and its engine.
type Conn struct {
	NC     conn.Conn
	Engine *http2.Conn // Lock guards it
	// Budget counts the output that the peer does not take. Set it before Run; nil: it is
	// not counted.
	Budget conn.Budget
	// Bulk has the connection read, and hand on, as much as 64 KiB at a time where as much
	// arrives. Set it before Run.
	Bulk bool
	// Source counts the framing of all connections of the peer's source. Set it before Run;
	// nil: only the engine counts it, for this connection.
	Source Source
	// Hangups tell the end of a connection that is read often: the reader then makes no system
	// call that finds nothing (rawio.Conn.OnHangup). Set it before Run; nil: it makes them.
	Hangups *rawio.Hangups

	reader, flusher *fairshare.Task
	heard           atomic.Int64 // when something was read last, by balance.Now

	raw  *rawio.Conn // the TCP connection of NC; nil: only the flusher writes
	mu   sync.Mutex
	wake sync.Cond // the flusher waits for output

	piece   int       // bytes that the engine is fed at once; only the reader uses it
	slow    bool      // the peer had to wait after the last input; only the reader uses it
	inside  bool      // the last input ended inside a message; only the reader uses it
	excess  int       // bytes that came after this side's FIN; only the reader uses it
	waiting []waiting // writers that wait for room, in their order
	closed  bool      // the reader has ended, or a write failed
	writing bool      // a goroutine writes to NC, without holding mu
	behind  bool      // raw has a backlog
	yields  yields    // of writers to those that may add to what they write
	shut    bool      // this side's FIN was sent, or is about to be: nothing is written any more
	flushed chan struct{}
}

type waiting struct {
	waiter Waiter
	queued *bool // set while the waiter is in the list
}

// New makes a connection. Run carries it, as reader: the goroutine that calls Run works
// under that Task. nil: under none.
func New(nc conn.Conn, config http2.Config, reader *fairshare.Task) *Conn {
	c := &Conn{
		NC:      nc,
		Engine:  http2.New(config),
		reader:  reader,
		piece:   pieceFirst,
		raw:     nc.Raw(),
		flushed: make(chan struct{}),
	}
	c.wake.L = &c.mu
	c.heard.Store(int64(balance.Now())) // in the handshake
	if account := reader.Account(); account != nil {
		c.flusher = new(fairshare.Task)
		c.flusher.Charge(account)
		nc.ReadsInTurn(reader)
		nc.WritesInTurn(c.flusher)
	}
	if c.raw != nil {
		c.raw.Impatient()
	}
	return c
}

// Lock locks the engine, and what the owner keeps for the connection.
func (c *Conn) Lock() { c.mu.Lock() }

// Unlock undoes Lock.
func (c *Conn) Unlock() { c.mu.Unlock() }

// Closed reports whether the connection accepts no further stream. The caller holds
// the lock.
func (c *Conn) Closed() bool { return c.closed }

// Close makes Closed true. The caller holds the lock.
func (c *Conn) Close() { c.closed = true }

// Batch collects the connections that got output while the events of one read were
// handled, so that each is flushed once. The zero value is ready.
type Batch struct {
	dirty []*Conn
	then  []Waiter
	round uint32
	pause time.Duration
	// Fields is memory for a field section that is edited before it is forwarded.
	Fields []http2.Field
}

// Add notes that c has output.
func (b *Batch) Add(c *Conn) {
	if !slices.Contains(b.dirty, c) {
		b.dirty = append(b.dirty, c)
	}
}

// Round is another number for each read, or piece of one, whose events are handled.
func (b *Batch) Round() uint32 { return b.round }

// Then makes Flush call w.Resume, which may need locks that the caller holds now.
func (b *Batch) Then(w Waiter) {
	if !slices.Contains(b.then, w) {
		b.then = append(b.then, w)
	}
}

// Pause has the reader whose events are handled wait for d before it reads on: what the
// peer did is to happen less often.
func (b *Batch) Pause(d time.Duration) { b.pause = max(b.pause, d) }

// Flush sends the output of the connections. It does not wait for sockets. The caller
// holds no lock.
func (b *Batch) Flush() {
	b.round++
	for len(b.then) > 0 {
		w := b.then[0]
		b.then = slices.Delete(b.then, 0, 1)
		w.Resume(b)
	}
	for i, c := range b.dirty {
		c.Send()
		b.dirty[i] = nil
	}
	b.dirty = b.dirty[:0]
}

// Run feeds the engine until the connection ends, and returns the cause: an
// *http2.ConnError if the peer violated the protocol, else the error of the read. head has
// bytes that were read already. The caller calls End afterwards.
func (c *Conn) Run(owner Owner, head []byte) error {
	go c.flush()
	return c.read(owner, head)
}

func (c *Conn) read(owner Owner, head []byte) error {
	var batch Batch
	if err := c.take(owner, head, &batch); err != nil {
		return err
	}
	buf := make([]byte, readSize)
	for reads := 1; ; reads++ {
		if reads == watchFrom && c.Hangups != nil {
			_ = c.NC.OnHangup(c.Hangups, func() {}) // at worst it costs more
		}
		n, err := c.NC.Read(buf)
		if c.Bulk && err == nil && n >= readMoreFrom {
			var more int
			more, err = c.NC.ReadMore(buf[n:])
			n += more
		}
		if n > 0 {
			if err := c.take(owner, buf[:n], &batch); err != nil {
				return err
			}
			if c.inside {
				conn.QuickAckPartial(c.NC, n)
			}
			if c.Bulk && n == readSize && len(buf) == readSize {
				buf = make([]byte, readBulk)
				c.NC.ReadAhead(true)
			}
		}
		if err != nil {
			return err
		}
	}
}

// take feeds the engine with what was read. Where other pods want the processors it does so
// in pieces that do not take long, because small frames cost much for their bytes: others
// have their turns between the pieces. Of a peer that had to wait it handles the next input in
// pieces, too, with the waits between them, so that no input is a burst.
func (c *Conn) take(owner Owner, p []byte, b *Batch) error {
	least := pieceLeast
	if c.Bulk {
		least = pieceFirst
	}
	slow := false
	for len(p) > 0 {
		if !c.reader.Contended() && !c.slow {
			if err := c.feed(owner, p, b); err != nil {
				return err
			}
			break
		}
		began, n := balance.Now(), min(len(p), c.piece)
		if c.slow {
			n = min(n, pieceFirst)
		}
		if err := c.feed(owner, p[:n], b); err != nil {
			return err
		}
		switch took := balance.Now() - began; {
		case took > 2*pieceTime && n > least:
			c.piece = max(n/2, least)
		case took < pieceTime/2 && n == c.piece:
			c.piece = min(2*n, readSize)
		}
		if p = p[n:]; len(p) > 0 {
			if c.slow && b.pause > 0 {
				slow = true
				if c.hold(b) {
					return nil
				}
			}
			c.reader.Resume()
		}
	}
	c.slow = slow || b.pause > 0
	c.hold(b)
	return nil
}

// hold waits for the pause that the batch asks for, or until the connection is closed, which gone says.
func (c *Conn) hold(b *Batch) (gone bool) {
	left := b.pause
	b.pause = 0
	if left <= 0 {
		return false
	}
	c.reader.Pause()
	defer c.reader.Resume()
	return conn.Hold(c.NC, left)
}

func (c *Conn) feed(owner Owner, p []byte, b *Batch) error {
	c.mu.Lock()
	if c.shut {
		c.mu.Unlock()
		return c.drop(len(p))
	}
	now := balance.Now()
	c.heard.Store(int64(now))
	c.Engine.Tick(now)
	events, err := c.Engine.Feed(p)
	c.inside = c.Engine.Inside()
	b.Pause(c.Engine.Wait())
	if n := c.Engine.Framed(); n != 0 && c.Source != nil {
		b.Pause(c.Source.Framed(now, n))
	}
	c.mu.Unlock()
	b.Add(c)
	if c.Bulk {
		events = gathered(joined(events))
	}
	for i := range events {
		ev := &events[i]
		if ev.Kind == http2.EventWindowOpened && ev.Stream == 0 {
			c.resume(b) // before the owner lets others write
		}
		owner.Event(ev, b)
	}
	b.Flush()
	return err
}

// Reset resets a stream.
func (c *Conn) Reset(id uint32, code http2.ErrCode, b *Batch) {
	c.mu.Lock()
	c.Engine.WriteReset(id, code)
	c.mu.Unlock()
	b.Add(c)
}

// Headers sends a field section of a stream. The error is the engine's.
func (c *Conn) Headers(id uint32, fields []http2.Field, end bool, b *Batch) error {
	c.mu.Lock()
	err := c.Engine.WriteHeaders(id, fields, end)
	c.mu.Unlock()
	b.Add(c)
	return err
}

// Consume returns n bytes of window to the peer. The update goes out with the next send.
func (c *Conn) Consume(id uint32, n int) {
	c.mu.Lock()
	c.Engine.Consume(id, n)
	c.mu.Unlock()
}

// Heard returns when the peer was heard last, by balance.Now: first, when the connection was
// made.
func (c *Conn) Heard() time.Duration { return time.Duration(c.heard.Load()) }

// Ping makes the peer say something.
func (c *Conn) Ping() {
	c.mu.Lock()
	c.Engine.Ping()
	c.mu.Unlock()
	c.Send()
}

// Drain asks the peer to open no further stream, and ends the connection after the last
// one.
func (c *Conn) Drain() {
	c.mu.Lock()
	c.Engine.Drain()
	c.mu.Unlock()
	c.wake.Signal()
}

// AwaitRoom registers w, which could not write everything, to be resumed when the
// connection has room again. It does nothing if the connection is not what stopped w, or
// if *queued says that w is registered. The caller holds the lock.
func (c *Conn) AwaitRoom(w Waiter, queued *bool) {
	if c.Engine.Blocked() && !*queued {
		*queued = true
		c.waiting = append(c.waiting, waiting{w, queued})
	}
}

// resume resumes the writers that wait for room, in their order, until the connection is
// full again.
func (c *Conn) resume(b *Batch) {
	for {
		c.mu.Lock()
		if len(c.waiting) == 0 || c.Engine.Blocked() {
			c.mu.Unlock()
			return
		}
		next := c.waiting[0]
		c.waiting[0] = waiting{}
		if c.waiting = c.waiting[1:]; len(c.waiting) == 0 {
			c.waiting = nil
		}
		*next.queued = false
		c.mu.Unlock()
		next.waiter.Resume(b)
	}
}
