package conn

import (
	"errors"
	"io"
	"os"
	"runtime/debug"
	"time"
)

// direction is one direction of a Relay that reads a connection, in a goroutine, or in none while
// it waits in a Lot.
type direction struct {
	way
	src   Conn
	flow  flow
	ended func() // called at its end; nil: nothing is

	Place             // without raw below src the direction cannot wait in a Lot
	had        uint64 // bytes at the last look; see Lot.Look, which alone uses these
	looked     bool
	prev, next *direction // in the list of the Lot
}

// carry is a goroutine that copies from src to the end, or until the direction waits in the Lot.
func (d *direction) carry(src Conn, first []byte) {
	d.inGoroutine(func() bool { return d.copy(src, first, nil) })
}

// resume goes on in a goroutine: after a wait in the Lot, or after from.
func (d *direction) resume() {
	d.inGoroutine(func() bool {
		d.task.Resume()
		return d.pass()
	})
}

// inGoroutine calls f, which reports whether the direction is to wait in the Lot. Otherwise it
// has ended.
func (d *direction) inGoroutine(f func() (parked bool)) {
	if parked := d.contain(f); parked {
		d.Park()
		return
	}
	if d.ended != nil {
		d.ended()
	}
	d.r.end(false)
}

// contain calls f and recovers from a panic: a defect that the bytes of one connection trigger
// must not end the traffic of the whole node.
func (d *direction) contain(f func() (parked bool)) (parked bool) {
	defer func() {
		if what := recover(); what != nil {
			d.r.defect.CompareAndSwap(nil, &Defect{what, debug.Stack()})
			d.r.Cut(d.readFails)
			parked = false
		}
	}()
	defer d.task.Pause()
	return f()
}

// from says what is read.
func (d *direction) from(src Conn) {
	d.src, d.flow = src, flow{size: smallSize}
	if d.r.Lot != nil {
		d.Place.Init(d.r.Lot, src.Raw(), d.resume)
	}
}

// copy copies from src to its end. begun, if it is not nil, is called when dst has first, or keeps
// it. It returns true before the end if the direction is to wait in the Lot.
func (d *direction) copy(src Conn, first []byte, begun func()) (parked bool) {
	d.from(src)
	kept, err := 0, error(nil)
	if len(first) > 0 {
		if d.seen != nil {
			d.seen(first)
		}
		kept, err = d.dst.Offer(first)
	}
	if begun != nil {
		begun()
	}
	if err == nil && kept > 0 {
		err = d.drain(kept)
	}
	if err != nil {
		d.flow.yield()
		d.r.Cut(reasonOf(err, d.writeFails))
		return false
	}
	return d.pass()
}

// pass is copy after the first bytes.
func (d *direction) pass() (parked bool) {
	if d.raw != nil {
		d.r.Lot.enter(d)
		defer d.r.Lot.leave(d)
	}
	if parked = d.passOn(); !parked {
		d.flow.yield()
		d.src.ReadAhead(false)
	}
	return parked
}

func (d *direction) passOn() (parked bool) {
	r, src, dst, f := d.r, d.src, d.dst, &d.flow
	for full := false; ; {
		d.waits()
		if !full { // there is nothing more for the moment: it is waited for without a buffer
			f.yield()
			if err := src.Await(); err != nil {
				if d.works(0, &err) {
					return true
				}
				r.Cut(reasonOf(err, d.readFails))
				return false
			}
			f.resume()
		}
		buf := *f.buf
		m, err := src.Read(buf)
		if d.works(m, &err) {
			return true
		}
		if err == nil && m >= bulkFrom {
			var more int
			more, err = src.ReadMore(buf[m:])
			m += more
		}
		if m > 0 {
			r.Count(d.n, m)
			if d.seen != nil {
				d.seen(buf[:m])
			}
			if err := d.write(buf[:m]); err != nil {
				r.Cut(reasonOf(err, d.writeFails))
				return false
			}
			was := full
			if full = m == len(buf); !full {
				QuickAckOpaque(src, m, was)
			}
		}
		if err == nil && f.fit(m) {
			src.ReadAhead(true)
		}
		if err == io.EOF {
			if src.Cut() {
				r.Cut(d.readFails)
			} else if dst.CloseWrite() != nil {
				r.Cut(d.writeFails)
			}
			return false
		}
		if err != nil {
			r.Cut(reasonOf(err, d.readFails))
			return false
		}
	}
}

// write writes p, which may be in the buffer of the flow. While the receiver is slow, that buffer
// is given back: only the rest of p is kept, and counted.
func (d *direction) write(p []byte) error {
	kept, err := d.dst.Offer(p)
	if err != nil || kept == 0 {
		return err
	}
	return d.drain(kept)
}

// drain waits until dst has sent the bytes that it has kept.
func (d *direction) drain(kept int) error {
	d.flow.yield()
	defer d.flow.resume()
	return d.r.flush(d.dst, kept+d.src.Yield())
}

// waits notes that the goroutine may be about to wait. Await and Read both may: the netpoller may
// tell of bytes that were read already.
func (d *direction) waits() {
	if d.raw != nil {
		d.state.Store(waiting)
	}
}

// works notes that it does not wait any more, after a read of n bytes and its error. It returns
// true if the direction is to wait in the Lot.
func (d *direction) works(n int, err *error) (park bool) {
	if d.raw == nil || d.state.CompareAndSwap(waiting, working) {
		return false
	}
	d.mu.Lock() // after look, which has set the deadline
	_ = d.raw.SetReadDeadline(time.Time{})
	d.mu.Unlock()
	d.state.Store(working)
	if !errors.Is(*err, os.ErrDeadlineExceeded) {
		return false
	}
	if *err = nil; n > 0 {
		return false
	}
	d.flow.yield()
	d.src.Yield()
	return true
}
