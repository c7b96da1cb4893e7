package conn

import (
	"sync"
	"sync/atomic"

	"github.com/underlane/underlane/pkg/rawio"
)

// Place is where the reader of a connection waits in a Lot, without a goroutine.
type Place struct {
	lot  *Lot
	raw  *rawio.Conn
	goOn func()

	state atomic.Uint32
	mu    sync.Mutex
	fd    int32 // of raw, after the first wait; mu guards it
	known bool  // there was a wait
}

// Init sets whose place it is: that of the reader of raw, which goes on by goOn, called in a
// goroutine of its own. It is called before Park.
func (p *Place) Init(lot *Lot, raw *rawio.Conn, goOn func()) { p.lot, p.raw, p.goOn = lot, raw, goOn }

// Park has the reader wait in the Lot until there is something to read, or the end, or until Ready
// is called. The caller does nothing for the reader afterwards: something may have arrived already.
func (p *Place) Park() {
	if !p.known {
		p.known = true
		p.raw.OnClose(p.closed)
	}
	p.mu.Lock()
	p.lot.parked.Add(1)
	p.state.Store(parked)
	fd, err := p.lot.waits.Await(p.raw, p)
	p.fd = fd
	p.mu.Unlock()
	if err != nil {
		p.Ready()
	}
}

// Parked reports whether the reader waits in the Lot.
func (p *Place) Parked() bool { return p.state.Load() == parked }

// closed is called when the connection was closed at this end.
func (p *Place) closed() {
	p.mu.Lock()
	fd := p.fd
	p.mu.Unlock()
	p.lot.waits.Forget(fd, p)
	p.Ready()
}

// Ready ends a wait, if there is one. It implements rawio.Waiter.
func (p *Place) Ready() {
	if p.state.CompareAndSwap(parked, working) {
		p.lot.parked.Add(-1)
		go p.goOn()
	}
}
