package connections

import (
	"context"
	"time"

	"github.com/underlane/underlane/pkg/fairshare"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/redirect/netns"
	"github.com/underlane/underlane/pkg/tap"
)

const (
	// growEvery is the time between two looks at the bytes of all connections.
	growEvery = 2 * time.Second
	// factsEvery is how many looks there are for one at which the kernel is asked for the
	// facts of a connection that has carried something since the last time, and for those
	// of the connections that no proxy carries. So that not all are asked for at once, the
	// turns of the connections differ.
	factsEvery = 5
	// lostAfter is for how long the kernel must not have had a connection until its close
	// counts as lost. One whose program has sent the end of its side is not in the kernel's
	// list, and its close comes when the peer has ended, too.
	lostAfter = 2 * time.Minute
	// growWithin is how long a look has rests where there are many connections. What is left
	// then is done without.
	growWithin = growEvery / 2
	// batch bounds the connections that are taken out of the order in one go. Others may be
	// opened and closed between two batches.
	batch = 256
)

// Run reports what connections carry until ctx is done.
func (t *Table) Run(ctx context.Context) error {
	tick := time.NewTicker(growEvery)
	defer tick.Stop()
	for turn := 0; ; turn++ {
		select {
		case now := <-tick.C:
			t.grow(ctx, now, turn)
			if turn%factsEvery == 0 {
				t.growDirect(ctx, now)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// grow reports what the connections of the proxy have carried since they were looked at
// last. A connection that closes and takes the place of another one in the order meanwhile
// makes that wait for the next look.
func (t *Table) grow(ctx context.Context, now time.Time, turn int) {
	var some [batch]*conn
	var e tap.Event // one for all: an event is large
	pace := fairshare.NewAside(ctx, growWithin)
	for at := 0; ; at += batch {
		t.mu.Lock()
		n := 0
		if at < len(t.order) {
			n = copy(some[:], t.order[at:])
		}
		t.mu.Unlock()
		if n == 0 {
			return
		}
		for i, c := range some[:n] {
			t.growOne(c, now, (at+i)%factsEvery == turn%factsEvery, &e)
			if pace.Rest() {
				now = time.Now()
			}
		}
	}
}

// growOne reports the growth of one connection, with the kernel's facts if asked is set.
func (t *Table) growOne(c *conn, now time.Time, asked bool, e *tap.Event) {
	read, written := c.live.Bytes()
	c.mu.Lock()
	defer c.mu.Unlock()
	grown := read > c.counted.ReadBytes || written > c.counted.WriteBytes
	if c.ended || !grown && (!asked || !c.unasked) {
		return
	}
	var wire tap.LiveLeg
	if c.unasked = !asked; asked {
		if legs := c.live.Legs(); c.side == tap.ClientSide || c.side == 0 && c.direction == mesh.Inbound {
			wire = legs.Client
		} else {
			wire = legs.Server
		}
	}
	t.report(c, now, read, written, wire.SRTT, wire.MinRTT, wire.Retransmits, e)
}

// report gives the sinks what a connection has carried beyond what was counted. c.mu is
// held, so that its close is not reported meanwhile.
func (t *Table) report(c *conn, now time.Time, read, written uint64, srtt, minRTT time.Duration, retransmits uint32, e *tap.Event) {
	*e = c.event(tap.Grown, now)
	e.SRTT, e.MinRTT = srtt, minRTT
	e.ReadBytes, e.WriteBytes = beyond(read, &c.counted.ReadBytes), beyond(written, &c.counted.WriteBytes)
	e.Retransmits = beyond(retransmits, &c.counted.Retransmits)
	for _, sink := range t.Sinks {
		sink.Emit(e)
	}
}

// beyond returns by how much now exceeds counted, and counts it.
func beyond[T uint32 | uint64](now T, counted *T) T {
	if now <= *counted {
		return 0
	}
	more := now - *counted
	*counted = now
	return more
}

// growDirect is grow for the connections that no proxy carries. It forgets those whose close
// was lost.
func (t *Table) growDirect(ctx context.Context, now time.Time) {
	if t.Direct == nil {
		return
	}
	t.mu.Lock()
	pods := map[string][]direct{}
	for key, c := range t.direct {
		// A connection that has just opened may be missing in what the kernel says.
		if now.Sub(c.began) >= growEvery {
			pods[key.uid] = append(pods[key.uid], key)
		}
	}
	t.mu.Unlock()
	var e tap.Event
	pace := fairshare.NewAside(ctx, growWithin)
	for uid, keys := range pods {
		if ctx.Err() != nil {
			return
		}
		sockets, err := t.Direct(uid)
		found := make(map[direct]*netns.Connection, len(sockets))
		for i := range sockets {
			found[direct{uid, sockets[i].Local, sockets[i].Remote}] = &sockets[i]
		}
		for _, key := range keys {
			t.growSocket(key, found[key], err, now, &e)
			if pace.Rest() {
				now = time.Now()
			}
		}
	}
}

func (t *Table) growSocket(key direct, s *netns.Connection, err error, now time.Time, e *tap.Event) {
	t.mu.Lock()
	c := t.direct[key]
	lost := false
	switch {
	case c == nil:
	case s != nil:
		c.missing = time.Time{}
	case err != nil:
	case c.missing.IsZero():
		// Its close is on its way, or was lost. In the first case the close has all of
		// its bytes, of which some were counted: so it is kept for another while.
		c.missing = now
	case now.Sub(c.missing) >= lostAfter:
		delete(t.direct, key)
		lost = true
	}
	t.mu.Unlock()
	if lost {
		t.lost(c, e)
	}
	if c == nil || s == nil {
		return
	}
	read, written := s.Sent, s.Received
	if s.Server {
		read, written = written, read
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ended && (read > c.counted.ReadBytes || written > c.counted.WriteBytes) {
		t.report(c, now, read, written, s.SRTT, s.MinRTT, s.Retransmits, e)
	}
}

// lost reports the end of a connection whose close was lost, so that it is not counted as
// open for as long as the agent runs. It lasted until it was missed. Its bytes are those that
// were counted.
func (t *Table) lost(c *conn, e *tap.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	*e = c.event(tap.ConnClose, c.missing)
	e.Duration = max(c.missing.Sub(c.began), 1)
	e.Counted = c.counted
	e.ReadBytes, e.WriteBytes, e.Retransmits = c.counted.ReadBytes, c.counted.WriteBytes, c.counted.Retransmits
	for _, sink := range t.Sinks {
		sink.Emit(e)
	}
}
