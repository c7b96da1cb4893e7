package conn

import (
	"net"
	"sync"
	"sync/atomic"

	"github.com/underlane/underlane/pkg/fairshare"
	"github.com/underlane/underlane/pkg/mesh"
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

// sink is the direction of a Relay that a Forwarder drives.
type sink struct {
	r                     *Relay
	dst                   Conn
	n                     *atomic.Uint64
	readFails, writeFails mesh.Reason
	seen                  func([]byte) // nil, or gets the bytes before dst has them

	kept    int // bytes that dst has kept
	task    *fairshare.Task
	running sync.WaitGroup // the direction, and the goroutines of Go
	ended   atomic.Bool
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
	s.running.Go(func() {
		s.task.Resume()
		defer s.task.Pause()
		f()
	})
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
	if s.ended.CompareAndSwap(false, true) {
		s.running.Done()
	}
}

// From implements Sink.
func (s *sink) From(src Conn) {
	task := new(fairshare.Task) // a goroutine of Go may just be ending
	var turns rawio.Turns
	if task.Charge(s.task.Account()); task.Account() != nil {
		turns = task
	}
	src.ReadsInTurn(turns)
	s.dst.WritesInTurn(turns)
	s.running.Go(func() {
		task.Resume()
		defer task.Pause()
		f := newFlow()
		s.r.pass(s.dst, src, &f, s.n, s.seen, s.readFails, s.writeFails)
		putAny(f.buf)
		if s.ended.CompareAndSwap(false, true) {
			s.running.Done()
		}
	})
}

// forward copies in both directions, where the owner of src passes on what arrives from it.
// first was read from src before. back is copied in the caller's goroutine.
func (r *Relay) forward(src Forwarder, to *sink, first []byte, back func(begun func())) mesh.Reason {
	to.running.Add(1)
	back(func() {
		if len(first) == 0 {
			src.Forward(to)
			return
		}
		to.Go(func() {
			kept, err := to.offerFirst(first)
			if err == nil && kept > 0 {
				err = to.Drain()
			}
			if err != nil {
				to.End(err)
			}
			src.Forward(to)
		})
	})
	r.Task.Pause()
	to.running.Wait()
	return mesh.Reason(r.reason.Load())
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
