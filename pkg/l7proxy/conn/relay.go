package conn

import (
	"errors"
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
	// Lot is where directions wait that carry nothing; nil: in their goroutines.
	Lot *Lot

	first  atomic.Int64 // see FirstByte
	cut    atomic.Bool
	reason atomic.Uint32 // the mesh.Reason why it was cut: the first failure, which causes the later ones

	here   direction    // the one in the goroutine of Begin's caller
	parked bool         // here has given that goroutine up
	left   atomic.Int32 // directions and their goroutines that have not ended, and one for the caller of Begin
	over   func(*Defect)
	defect atomic.Pointer[Defect]
}

// Defect is a panic of a goroutine that carries a connection.
type Defect struct {
	What  any
	Stack []byte
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
	if !r.Begin(fromClient, fromServer) {
		over := make(chan *Defect, 1)
		r.GoOn(func(defect *Defect) { over <- defect })
		if defect := <-over; defect != nil {
			panic(defect.What)
		}
	}
	return r.Reason()
}

// Reason returns why the relay was cut; ReasonNone: it was not.
func (r *Relay) Reason() mesh.Reason { return mesh.Reason(r.reason.Load()) }

// Begin is Run, but that it may return before both directions have ended: the goroutine of its
// caller is not needed any more. ended is false then, and the caller calls GoOn.
func (r *Relay) Begin(fromClient, fromServer []byte) (ended bool) {
	r.left.Store(2) // here, and the caller
	other := new(fairshare.Task)
	other.Charge(r.Task.Account())
	if stream, ok := r.Server.(Forwarder); ok {
		r.turns(r.Client, r.Server, other)
		r.here.way = r.toServer(r.Task)
		r.forward(r.Client, fromClient, stream, &sink{way: r.toClient(other)}, fromServer)
	} else if stream, ok := r.Client.(Forwarder); ok {
		r.turns(r.Server, r.Client, other)
		r.here.way = r.toClient(r.Task)
		r.forward(r.Server, fromServer, stream, &sink{way: r.toServer(other)}, fromClient)
	} else {
		if r.Task.Account() != nil {
			r.Client.ReadsInTurn(r.Task)
			r.Server.WritesInTurn(r.Task)
			r.Server.ReadsInTurn(other)
			r.Client.WritesInTurn(other)
		}
		r.here.way = r.toServer(r.Task)
		down := &direction{way: r.toClient(other)}
		r.left.Add(1)
		go down.carry(r.Server, fromServer)
		r.parked = r.here.copy(r.Client, fromClient, nil)
	}
	r.Task.Pause()
	if !r.parked {
		r.left.Add(-1)
	}
	return r.left.Load() == 1
}

// GoOn has over called when both directions have ended, in a goroutine that may wait. It is
// called at once, if they have. It gets what a goroutine of the relay has panicked with; nil: none
// has.
func (r *Relay) GoOn(over func(*Defect)) {
	r.over = over
	if r.parked {
		r.here.Park()
	}
	if r.left.Add(-1) == 0 {
		over(r.defect.Load())
	}
}

// end notes that a direction has ended, or a goroutine of one. aside: the caller must not wait.
func (r *Relay) end(aside bool) {
	switch {
	case r.left.Add(-1) > 0:
	case aside:
		go func() { r.over(r.defect.Load()) }()
	default:
		r.over(r.defect.Load())
	}
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

// way is what one direction of a Relay needs to write.
type way struct {
	r    *Relay
	dst  Conn
	n    *atomic.Uint64
	seen func([]byte) // nil, or gets the bytes before dst has them
	task *fairshare.Task
	// The reasons of failures whose error has no reason.
	readFails, writeFails mesh.Reason
}

func (r *Relay) toServer(task *fairshare.Task) way {
	return way{r: r, dst: r.Server, n: &r.ToServer, task: task, readFails: mesh.ReasonClientReset, writeFails: mesh.ReasonUpstreamReset}
}

func (r *Relay) toClient(task *fairshare.Task) way {
	return way{r: r, dst: r.Client, n: &r.ToClient, task: task, seen: r.Seen, readFails: mesh.ReasonUpstreamReset, writeFails: mesh.ReasonClientReset}
}

// Count counts bytes in ToServer or ToClient.
func (r *Relay) Count(n *atomic.Uint64, bytes int) {
	if n.Add(uint64(bytes)) == uint64(bytes) && n == &r.ToClient && bytes > 0 {
		r.first.Store(max(1, int64(time.Since(r.Began))))
	}
}

// FirstByte is the time until the server's first byte; 0: nothing has come from it.
func (r *Relay) FirstByte() time.Duration { return time.Duration(r.first.Load()) }

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
