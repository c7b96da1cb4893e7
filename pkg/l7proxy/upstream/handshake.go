package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls"
	"github.com/underlane/underlane/pkg/rawio"
)

// Bounds of mTLS handshakes. Each takes about a millisecond of processor on either
// side. At most half of the processors compute them, and an agent is given a few of
// one pod at a time: the others wait here and not in the queue of a node that hears
// from many.
const (
	turnsAtOnce = 8 // handshakes of one pod with one endpoint
	// queueLimit is how long a connection waits for its turn, or for an agent that
	// says that it is busy.
	queueLimit = time.Minute
	busyFirst  = 50 * time.Millisecond // before a busy agent is tried again; it doubles
	busyMost   = 400 * time.Millisecond
	// queuePatience is well below the silence after which an agent counts as away.
	queuePatience = time.Second
	// From outside, under way at a time.
	shakesMost       = 4096
	shakesOfSource   = 1024
	shakesOfStranger = 64
	// shakeWrite bounds what a peer may take over reading the handshake.
	shakeWrite = 30 * time.Second
)

func newGate() *mtls.Gate {
	slots := (runtime.GOMAXPROCS(0) + 1) / 2
	return mtls.NewGate(mtls.GateOptions{
		Slots: slots, StrangerSlots: max(slots/2, 1),
		MaxActive: shakesMost, MaxPerSource: shakesOfSource, MaxPerStranger: shakesOfStranger,
		MaxWait: queuePatience,
	})
}

// shaking is what a connection has while its handshake is under way: a turn at the
// gate, and how long its peer may keep it waiting in all.
type shaking struct {
	turn *mtls.Turn
	left time.Duration
}

// read takes what is there. To wait for more it gives the turn's slot away: only
// time that the peer takes counts against it.
func (s *shaking) read(t *conn.Transport, p []byte) (int, error) {
	t.Eager(true)
	n, err := t.Conn.Read(p)
	t.Eager(false)
	if errors.Is(err, rawio.ErrNotNow) {
		s.turn.Pause()
		began := time.Now()
		_ = t.SetReadDeadline(began.Add(s.left))
		n, err = t.Conn.Read(p)
		s.left -= time.Since(began)
		s.turn.Resume()
	}
	return n, conn.EOFIsTruncation(err)
}

// Handshake does the handshake of c, which is on below, at the gate. from is whom
// it is done for: the pod of this node that connects (own), or the client that has
// come.
func (p *Pool) Handshake(ctx context.Context, from netip.Addr, own bool, c *tls.Conn, below *conn.Transport) error {
	turn, err := p.gate.Enter(ctx, from, own)
	if errors.Is(err, mtls.ErrBusy) {
		return mesh.Fail(mesh.ReasonOverload, err)
	}
	if err != nil {
		return mesh.Fail(mesh.ReasonTimeout, err)
	}
	below.Handshake = (&shaking{turn: turn, left: p.Limits.HandshakeSilence}).read
	_ = below.SetWriteDeadline(time.Now().Add(shakeWrite))
	proved := false
	defer func() {
		below.Handshake = nil
		turn.Leave(proved)
		_ = below.SetDeadline(time.Time{})
	}()
	err = mtls.Handshake(ctx, c)
	proved = err == nil
	return err
}

// turns are the handshakes of pods with agents of other nodes, those that wait
// for their turn among them.
type turns struct {
	mu    sync.Mutex
	byKey map[turnKey]*queue

	overdue atomic.Uint64 // gave up waiting
}

// turnKey: one pod's connections to one endpoint wait for each other alone, for
// where packets of one are dropped, or one says nothing, each takes seconds.
type turnKey struct {
	source string // UID
	to     netip.AddrPort
}

type queue struct {
	gate     *mtls.Gate
	users    int
	answered time.Time // when an agent last did
	lost     time.Time // when nobody last did, not even to TCP
	cause    error     // of that
}

// board joins the handshakes with an endpoint, until leave.
func (f *turns) board(key turnKey) (one *queue, leave func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.byKey == nil {
		f.byKey = make(map[turnKey]*queue)
	}
	one = f.byKey[key]
	if one == nil {
		one = &queue{gate: mtls.NewGate(mtls.GateOptions{Slots: turnsAtOnce})}
		f.byKey[key] = one
	}
	one.users++
	return one, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if one.users--; one.users == 0 {
			delete(f.byKey, key)
		}
	}
}

// ended notes how a handshake ended.
func (f *turns) ended(one *queue, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case err == nil:
		one.answered = time.Now()
	case nodeLost(err):
		one.lost, one.cause = time.Now(), err
	}
}

// heard reports whether an agent has answered after a time.
func (f *turns) heard(one *queue, after time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return one.answered.After(after)
}

// gone is an error that another got after a time, because nobody is there.
func (f *turns) gone(one *queue, after time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if one.lost.After(after) && !one.answered.After(one.lost) {
		return one.cause
	}
	return nil
}

var errQueue = fmt.Errorf("its turn did not come within %s", queueLimit)

// handshakeInTurn is handshake, when its turn has come. An agent that says that it
// is busy is tried again for a while, and so is one that was silent while others
// got an answer from it. What others found out meanwhile is not found out again.
func (p *Pool) handshakeInTurn(ctx context.Context, ep *Endpoint, alpn string) (conn.Conn, Result, error) {
	came := time.Now()
	one, leave := p.turns.board(turnKey{ep.Client.UID, ep.Peer.Addr})
	defer leave()
	waits, cancel := context.WithTimeout(ctx, queueLimit)
	defer cancel()
	turn, err := one.gate.Enter(waits, netip.Addr{}, true)
	if err != nil {
		return nil, ep.Expected(), p.overdue(ctx, errQueue)
	}
	defer turn.Leave(false)
	if p.down.is(ep.Peer.Addr) {
		return nil, ep.Expected(), errDown
	}
	if err := p.turns.gone(one, came); err != nil {
		return nil, ep.Expected(), err
	}
	limit := queueLimit
	if ep.HasOthers {
		limit = p.Limits.Failover
	}
	giveUp := time.Now().Add(limit)
	for wait := busyFirst; ; wait = min(2*wait, busyMost) {
		began := time.Now()
		c, result, err := p.handshake(ctx, ep, alpn)
		if ctx.Err() == nil {
			p.turns.ended(one, err)
		}
		if err == nil || !mtls.Busy(err) && !(mtls.Silent(err) && p.turns.heard(one, began)) {
			return c, result, err
		}
		pause := wait + rand.N(wait)
		if time.Until(giveUp) < pause {
			return nil, ep.Expected(), p.overdue(ctx, err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, ep.Expected(), mesh.Fail(mesh.ReasonTimeout, ctx.Err())
		}
	}
}

func (p *Pool) overdue(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return mesh.Fail(mesh.ReasonTimeout, ctx.Err())
	}
	p.turns.overdue.Add(1)
	return mesh.Fail(mesh.ReasonOverload, err)
}

// sourceOf is the address of the pod that a handshake is counted to.
func sourceOf(local *mesh.Workload) netip.Addr {
	if local == nil || len(local.Addrs) == 0 {
		return netip.Addr{}
	}
	return local.Addrs[0]
}

// handshake gives a connection to the endpoint's agent. Where this process
// stood still meanwhile a failure is no word about the agent: it tries again.
func (p *Pool) handshake(ctx context.Context, ep *Endpoint, alpn string) (conn.Conn, Result, error) {
	began := time.Now()
	c, result, err := p.handshakeOnce(ctx, ep, alpn)
	if err != nil && ctx.Err() == nil && p.stall.since(began) {
		return p.handshakeOnce(ctx, ep, alpn)
	}
	return c, result, err
}

func (p *Pool) handshakeOnce(ctx context.Context, ep *Endpoint, alpn string) (conn.Conn, Result, error) {
	config, err := p.Certs.ClientConfig(ep.Client.Identity, ep.Key.Identity, alpn)
	if err != nil {
		return nil, ep.Expected(), err
	}
	raw, err := p.dialPlain(ctx, ep, ep.Peer.Addr)
	if err != nil {
		return nil, ep.Expected(), err
	}
	below := &monitoredConn{
		Transport: conn.Transport{Conn: raw}, ep: *ep, pool: p,
		dedicated: alpn == mtls.ALPNHTTP1,
	}
	below.ep.HasOthers = true // its agent is asked with little patience
	c := tls.Client(below, config)
	if err := p.Handshake(ctx, sourceOf(ep.Client), true, c, &below.Transport); err != nil {
		raw.Close()
		return nil, ep.Expected(), p.dialError(ep, err)
	}
	p.down.back(ep.Peer.Addr)
	p.agents.add(below)
	result := ep.Expected()
	result.ALPN = c.ConnectionState().NegotiatedProtocol
	return conn.NewSecure(c, &below.Transport), result, nil
}
