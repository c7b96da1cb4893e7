package conn

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/underlane/underlane/pkg/fairshare"
	"github.com/underlane/underlane/pkg/mesh"
)

// Relay copies bytes in both directions, each in its own goroutine, or in that of a
// Forwarder. The end of one direction is forwarded to the other side. A failure cuts both
// connections.
type Relay struct {
	Client, Server     Conn
	ToServer, ToClient atomic.Uint64   // bytes
	Task               *fairshare.Task // of the goroutine that calls Run; it is running
	Budget             Budget          // of bytes that a slow receiver makes wait; nil: no limit
	// Seen gets what the server sends, before the client gets it; nil: nobody looks. It must not
	// keep the bytes.
	Seen func(fromServer []byte)
	// Began is when the connection was open. FirstByte counts from then.
	Began time.Time

	first  atomic.Int64 // see FirstByte
	cut    atomic.Bool
	reason atomic.Uint32 // the mesh.Reason why it was cut: the first failure, which causes the later ones
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
	other := new(fairshare.Task)
	other.Charge(r.Task.Account())
	if stream, ok := r.Server.(Forwarder); ok {
		r.turns(r.Client, r.Server, other)
		to := &sink{r: r, dst: r.Client, n: &r.ToClient, task: other, seen: r.Seen, readFails: mesh.ReasonUpstreamReset, writeFails: mesh.ReasonClientReset}
		return r.forward(stream, to, fromServer, func(begun func()) {
			r.copy(r.Server, r.Client, fromClient, &r.ToServer, mesh.ReasonClientReset, mesh.ReasonUpstreamReset, begun)
		})
	}
	if stream, ok := r.Client.(Forwarder); ok {
		r.turns(r.Server, r.Client, other)
		to := &sink{r: r, dst: r.Server, n: &r.ToServer, task: other, readFails: mesh.ReasonClientReset, writeFails: mesh.ReasonUpstreamReset}
		return r.forward(stream, to, fromClient, func(begun func()) {
			r.copy(r.Client, r.Server, fromServer, &r.ToClient, mesh.ReasonUpstreamReset, mesh.ReasonClientReset, begun)
		})
	}
	var down sync.WaitGroup
	if r.Task.Account() != nil {
		r.Client.ReadsInTurn(r.Task)
		r.Server.WritesInTurn(r.Task)
		r.Server.ReadsInTurn(other)
		r.Client.WritesInTurn(other)
	}
	down.Go(func() {
		defer other.Pause()
		r.copy(r.Client, r.Server, fromServer, &r.ToClient, mesh.ReasonUpstreamReset, mesh.ReasonClientReset, nil)
	})
	r.copy(r.Server, r.Client, fromClient, &r.ToServer, mesh.ReasonClientReset, mesh.ReasonUpstreamReset, nil)
	r.Task.Pause()
	down.Wait()
	return mesh.Reason(r.reason.Load())
}

// turns has the caller's goroutine, which reads local, work in the turns of r.Task, and the
// goroutines that write to local in those of other. stream is the other side.
func (r *Relay) turns(local, stream Conn, other *fairshare.Task) {
	if r.Task.Account() == nil {
		return
	}
	local.ReadsInTurn(r.Task)
	stream.WritesInTurn(r.Task)
	stream.ReadsInTurn(nil)
	local.WritesInTurn(other)
}

// copy copies one direction to its end. readFails and writeFails are the reasons of
// failures whose error has no reason. begun, if it is not nil, is called when dst has first,
// or keeps it.
func (r *Relay) copy(dst, src Conn, first []byte, n *atomic.Uint64, readFails, writeFails mesh.Reason, begun func()) {
	f := newFlow()
	defer func() { putAny(f.buf) }()
	var seen func([]byte)
	if n == &r.ToClient {
		seen = r.Seen
	}
	kept, err := 0, error(nil)
	if len(first) > 0 {
		if seen != nil {
			seen(first)
		}
		kept, err = dst.Offer(first)
	}
	if begun != nil {
		begun()
	}
	if err == nil && kept > 0 {
		err = r.await(dst, src, &f, kept)
	}
	if err != nil {
		r.Cut(reasonOf(err, writeFails))
		return
	}
	r.pass(dst, src, &f, n, seen, readFails, writeFails)
}

// pass is copy with the buffer of f, after the first bytes. seen is nil, or gets the bytes.
func (r *Relay) pass(dst, src Conn, f *flow, n *atomic.Uint64, seen func([]byte), readFails, writeFails mesh.Reason) {
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
			r.Count(n, m)
			if seen != nil {
				seen(buf[:m])
			}
			if err := r.write(dst, src, f, buf[:m]); err != nil {
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

// Count counts bytes in ToServer or ToClient.
func (r *Relay) Count(n *atomic.Uint64, bytes int) {
	if n.Add(uint64(bytes)) == uint64(bytes) && n == &r.ToClient && bytes > 0 {
		r.first.Store(max(1, int64(time.Since(r.Began))))
	}
}

// FirstByte is the time until the server's first byte; 0: nothing has come from it.
func (r *Relay) FirstByte() time.Duration { return time.Duration(r.first.Load()) }

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
	return r.flush(dst, kept+src.Yield())
}

// flush waits until dst has sent the bytes that it has kept. held bytes wait meanwhile.
func (r *Relay) flush(dst Conn, held int) error {
	if r.Budget != nil {
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
	if r.cut.CompareAndSwap(false, true) { // the reset of a Forwarder calls Cut again
		r.reason.Store(uint32(reason))
		_ = r.Client.Reset()
		_ = r.Server.Reset()
	}
}
