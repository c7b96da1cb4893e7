package conn

import (
	"net"
	"sync/atomic"

	"github.com/underlane/underlane/pkg/fairshare"
	"github.com/underlane/underlane/pkg/rawio"
)

// Forwarder is a Conn that passes on what arrives without a goroutine that waits for it: a
// stream of a shared connection.
type Forwarder interface {
	Conn
	// Forward passes all bytes that arrive to a sink, those that have arrived already first.
	// Nothing may read the connection afterwards. It does not wait.
	Forward(to Sink)
}

// Sink takes the bytes that a Forwarder passes on. At most one goroutine at a time calls
// Take and Drain.
type Sink interface {
	// Take passes p on without waiting. kept is how many bytes wait: the caller calls Drain
	// before the next Take. The caller may use p again at once.
	Take(p []byte) (kept int, err error)
	// Drain waits until the bytes that Take has kept are sent. Only a goroutine of Go calls it.
	Drain() error
	// Go runs f in a goroutine, which may wait. It is called before End only.
	Go(f func())
	// From takes what follows from src, to its end, in a goroutine of its own. It is called before
	// End, and nothing else is called afterwards but End.
	From(src Conn)
	// End says that nothing is taken any more. err is why the connection was cut; nil: the
	// peer has ended its side in order. It may be called again, by any goroutine.
	End(err error)
}

// sink is the direction of a Relay that a Forwarder drives. It is one, and each goroutine of Go
// another one, of those that Relay.left counts.
type sink struct {
	way
	kept  int // bytes that dst has kept
	ended atomic.Bool
}

var _ Sink = (*sink)(nil)

// Take implements Sink.
func (s *sink) Take(p []byte) (kept int, err error) {
	s.r.Count(s.n, len(p))
	if s.seen != nil {
		s.seen(p)
	}
	if s.kept, err = s.dst.Offer(p); err != nil {
		s.r.Cut(reasonOf(err, s.writeFails))
	}
	return s.kept, err
}

// Drain implements Sink.
func (s *sink) Drain() error {
	err := s.r.flush(s.dst, s.kept)
	if err != nil {
		s.r.Cut(reasonOf(err, s.writeFails))
	}
	return err
}

// Go implements Sink.
func (s *sink) Go(f func()) {
	s.r.left.Add(1)
	go s.work(f)
}

// work is a goroutine of Go.
func (s *sink) work(f func()) {
	s.task.Resume()
	f()
	s.task.Pause()
	s.r.end(false)
}

// End implements Sink.
func (s *sink) End(err error) {
	switch {
	case err == net.ErrClosed:
		s.r.Cut(s.readFails)
	case err != nil:
		s.r.Cut(reasonOf(err, s.readFails))
	case s.ended.Load():
	case s.dst.CloseWrite() != nil:
		s.r.Cut(s.writeFails)
	}
	s.finish(true)
}

// finish ends the direction, once. aside: the caller must not wait.
func (s *sink) finish(aside bool) {
	if s.ended.CompareAndSwap(false, true) {
		s.r.end(aside)
	}
}

// From implements Sink.
func (s *sink) From(src Conn) {
	d := &direction{way: s.way, ended: func() { s.finish(false) }}
	d.task = new(fairshare.Task) // a goroutine of Go may just be ending
	var turns rawio.Turns
	if d.task.Charge(s.task.Account()); d.task.Account() != nil {
		turns = d.task
	}
	src.ReadsInTurn(turns)
	s.dst.WritesInTurn(turns)
	d.from(src)
	s.r.left.Add(1)
	go d.resume()
}

// forward copies in both directions: from local in this goroutine, after forth, which was read
// before, and from src where its owner passes on what arrives. back was read from that before.
func (r *Relay) forward(local Conn, forth []byte, src Forwarder, to *sink, back []byte) {
	r.left.Add(1)
	r.parked = r.here.copy(local, forth, func() {
		if len(back) == 0 {
			src.Forward(to)
			return
		}
		to.Go(func() {
			kept, err := to.offerFirst(back)
			if err == nil && kept > 0 {
				err = to.Drain()
			}
			if err != nil {
				to.End(err)
			}
			src.Forward(to)
		})
	})
}

// offerFirst is Take for bytes that were counted already.
func (s *sink) offerFirst(p []byte) (kept int, err error) {
	if s.seen != nil {
		s.seen(p)
	}
	if s.kept, err = s.dst.Offer(p); err != nil {
		s.r.Cut(reasonOf(err, s.writeFails))
	}
	return s.kept, err
}
