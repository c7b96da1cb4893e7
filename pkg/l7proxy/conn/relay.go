package conn

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"github.com/underlane/underlane/pkg/fairshare"
	"github.com/underlane/underlane/pkg/mesh"
)

// Relay copies bytes in both directions, each in its own goroutine. The end of one
// direction is forwarded to the other side. A failure cuts both connections.
type Relay struct {
	Client, Server     Conn
	ToServer, ToClient atomic.Uint64   // bytes
	Task               *fairshare.Task // of the goroutine that calls Run; it is running
	Budget             Budget          // of bytes that a slow receiver makes wait; nil: no limit

	cutOnce sync.Once
	reason  mesh.Reason // why it was cut: the first failure, which causes the later ones
}

// Budget counts bytes that wait, as quota.Usage does.
type Budget interface {
	// Wait counts n bytes until Waited. It returns false if there are too many.
	Wait(n int) bool
	Waited(n int)
}

// errTooMuch: so many bytes wait that the connection is cut.
var errTooMuch = mesh.Fail(mesh.ReasonOverload, nil)

// Run copies until both directions have ended. It begins with fromClient and fromServer,
// bytes that were read before. It returns why the relay was cut, or ReasonNone if both
// directions ended in an orderly way.
func (r *Relay) Run(fromClient, fromServer []byte) mesh.Reason {
	var down sync.WaitGroup
	var other fairshare.Task
	if other.Charge(r.Task.Account()); r.Task.Account() != nil {
		r.Client.ReadsInTurn(r.Task)
		r.Server.WritesInTurn(r.Task)
		r.Server.ReadsInTurn(&other)
		r.Client.WritesInTurn(&other)
	}
	down.Go(func() {
		defer other.Pause()
		r.copy(r.Client, r.Server, fromServer, &r.ToClient, mesh.ReasonUpstreamReset, mesh.ReasonClientReset)
	})
	r.copy(r.Server, r.Client, fromClient, &r.ToServer, mesh.ReasonClientReset, mesh.ReasonUpstreamReset)
	r.Task.Pause()
	down.Wait()
	return r.reason
}

// copy copies one direction to its end. readFails and writeFails are the reasons of
// failures whose error has no reason.
func (r *Relay) copy(dst, src Conn, first []byte, n *atomic.Uint64, readFails, writeFails mesh.Reason) {
	f := newFlow()
	defer func() { putAny(f.buf) }()
	if len(first) > 0 {
		if err := r.write(dst, src, &f, first); err != nil {
			r.Cut(reasonOf(err, writeFails))
			return
		}
	}
	defer src.ReadAhead(false)
	for full := false; ; {
		if !full { // there is nothing more for the moment: it is waited for without a buffer
			f.yield()
			err := src.Await()
			f.resume()
			if err != nil {
				r.Cut(reasonOf(err, readFails))
				return
			}
		}
		buf := *f.buf
		m, err := src.Read(buf)
		if err == nil && m >= bulkFrom {
			var more int
			more, err = src.ReadMore(buf[m:])
			m += more
		}
		if m > 0 {
			n.Add(uint64(m))
			if err := r.write(dst, src, &f, buf[:m]); err != nil {
				r.Cut(reasonOf(err, writeFails))
				return
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
				r.Cut(readFails)
			} else if dst.CloseWrite() != nil {
				r.Cut(writeFails)
			}
			return
		}
		if err != nil {
			r.Cut(reasonOf(err, readFails))
			return
		}
	}
}

// write writes p, which may be in the buffer of f. While the receiver is slow, that buffer
// is given back: only the rest of p is kept, and counted.
func (r *Relay) write(dst, src Conn, f *flow, p []byte) error {
	kept, err := dst.Offer(p)
	if err != nil || kept == 0 {
		return err
	}
	return r.await(dst, src, f, kept)
}

// await waits until dst has sent the bytes that it has kept.
func (r *Relay) await(dst, src Conn, f *flow, kept int) error {
	f.yield()
	defer f.resume()
	if r.Budget != nil {
		held := kept + src.Yield()
		defer r.Budget.Waited(held)
		if !r.Budget.Wait(held) {
			return errTooMuch
		}
	}
	return dst.Flush()
}

// reasonOf is the reason that err carries, else otherwise.
func reasonOf(err error, otherwise mesh.Reason) mesh.Reason {
	if said, ok := errors.AsType[*mesh.ReasonError](err); ok {
		return said.Reason
	}
	return otherwise
}

// Cut resets both connections. Run then returns reason, if it was the first.
func (r *Relay) Cut(reason mesh.Reason) {
	r.cutOnce.Do(func() {
		r.reason = reason
		_ = r.Client.Reset()
		_ = r.Server.Reset()
	})
}
