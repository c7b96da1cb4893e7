package fairshare

import (
	"context"
	"time"
)

const (
	// asidePiece is how long work that nobody waits for goes on at a time, asideRest how long it
	// rests then: it takes a sixth of a processor.
	asidePiece = 200 * time.Microsecond
	asideRest  = time.Millisecond
)

// Aside paces work that is done for all pods at once and that none of them waits for, such as a
// look at each connection: in small pieces with rests between them. In one piece a look at
// thousands of connections would take a processor from whoever has something to send for as long
// as it lasts, and would make ready at once all goroutines that it wakes up.
type Aside struct {
	ctx   context.Context
	began int64 // of the piece
	until int64 // there are no rests from then on
}

// NewAside begins such work. It has rests for so long, and until ctx is done: then what is left is
// done without.
func NewAside(ctx context.Context, within time.Duration) *Aside {
	at := now()
	return &Aside{ctx: ctx, began: at, until: at + int64(within)}
}

// Rest is called after each small part of the work. It rests if the piece has taken long enough,
// and reports whether it has.
func (a *Aside) Rest() bool {
	at := now()
	if at-a.began < int64(asidePiece) || at >= a.until || a.ctx.Err() != nil {
		return false
	}
	time.Sleep(asideRest)
	a.began = now()
	return true
}
