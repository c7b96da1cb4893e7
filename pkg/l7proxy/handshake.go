package l7proxy

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

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls"
	"github.com/underlane/underlane/pkg/rawio"
)

// Bounds of mTLS handshakes. Each takes about a millisecond of processor on either
// side. Half of the processors is for them at most, and an agent is given a few of
// one pod at a time: the others wait here and not in the queue of a node that hears
// from many.
const (
	flightsAtOnce = 8 // handshakes of one pod with one endpoint
	// queueLimit is how long a connection waits for its turn, or for an agent that
	// says that it is busy.
	queueLimit = time.Minute
	busyFirst  = 50 * time.Millisecond // before a busy agent is tried again; it doubles
	busyMost   = 400 * time.Millisecond
	// queuePatience is well below the silence that an agent is given up for.
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
		Slots: slots, Strangers: max(slots/2, 1),
		Most: shakesMost, MostOfSource: shakesOfSource, MostOfStranger: shakesOfStranger,
		Patience: queuePatience,
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
func (s *shaking) read(c *transport, p []byte) (int, error) {
	c.Eager(true)
	n, err := c.Conn.Read(p)
	c.Eager(false)
	if errors.Is(err, rawio.ErrNotNow) {
		s.turn.Rest()
		began := time.Now()
		_ = c.SetReadDeadline(began.Add(s.left))
		n, err = c.Conn.Read(p)
		s.left -= time.Since(began)
		s.turn.Resume()
	}
	return n, whole(err)
}

// doHandshake does the handshake of conn, which is on below, at the gate. from is
// who it is done for: the pod of this node that connects (own), or the client that
// has come.
func (p *Proxy) doHandshake(ctx context.Context, from netip.Addr, own bool, conn *tls.Conn, below *transport) error {
	turn, err := p.gate.Enter(ctx, from, own)
	if errors.Is(err, mtls.ErrBusy) {
		return mesh.Fail(mesh.ReasonOverload, err)
	}
	if err != nil {
		return mesh.Fail(mesh.ReasonTimeout, err)
	}
	below.shaking = &shaking{turn: turn, left: p.Limits.HandshakePause}
	_ = below.SetWriteDeadline(time.Now().Add(shakeWrite))
	proved := false
	defer func() {
		below.shaking = nil
		turn.Leave(proved)
		_ = below.SetDeadline(time.Time{})
	}()
	err = mtls.Handshake(ctx, conn)
	proved = err == nil
	return err
}

// flights are the handshakes of pods with agents of other nodes, those that wait
// for their turn among them.
type flights struct {
	mu    sync.Mutex
	byKey map[flightKey]*flight

	overdue atomic.Uint64 // gave up waiting
}

// flightKey: one pod's connections to one endpoint wait for each other alone, for
// where packets of one are dropped, or one says nothing, each takes seconds.
type flightKey struct {
	source string // UID
	to     netip.AddrPort
}

type flight struct {
	gate     *mtls.Gate
	users    int
	answered time.Time // when an agent last did
	lost     time.Time // when nobody last did, not even to TCP
	cause    error     // of that
}

// board joins the handshakes with an endpoint, until leave.
func (f *flights) board(key flightKey) (one *flight, leave func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.byKey == nil {
		f.byKey = make(map[flightKey]*flight)
	}
	one = f.byKey[key]
	if one == nil {
		one = &flight{gate: mtls.NewGate(mtls.GateOptions{Slots: flightsAtOnce})}
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
func (f *flights) ended(one *flight, err error) {
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
func (f *flights) heard(one *flight, after time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return one.answered.After(after)
}

// gone is an error that another got after a time, because nobody is there.
func (f *flights) gone(one *flight, after time.Time) error {
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
func (p *Proxy) handshakeInTurn(ctx context.Context, local *mesh.Workload, c *Choice, alpn string) (Conn, error) {
	came := time.Now()
	one, leave := p.flights.board(flightKey{local.UID, c.Peer.Addr})
	defer leave()
	waits, cancel := context.WithTimeout(ctx, queueLimit)
	defer cancel()
	turn, err := one.gate.Enter(waits, netip.Addr{}, true)
	if err != nil {
		return nil, p.overdue(ctx, errQueue)
	}
	defer turn.Leave(false)
	if p.down.is(c.Peer.Addr) {
		return nil, errDown
	}
	if err := p.flights.gone(one, came); err != nil {
		return nil, err
	}
	limit := queueLimit
	if c.failover {
		limit = p.Limits.FailoverTimeout
	}
	giveUp := time.Now().Add(limit)
	for wait := busyFirst; ; wait = min(2*wait, busyMost) {
		began := time.Now()
		conn, err := p.handshake(ctx, local, c, alpn)
		if ctx.Err() == nil {
			p.flights.ended(one, err)
		}
		if err == nil || !mtls.Busy(err) && !(mtls.Silent(err) && p.flights.heard(one, began)) {
			return conn, err
		}
		pause := wait + rand.N(wait)
		if time.Until(giveUp) < pause {
			return nil, p.overdue(ctx, err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, mesh.Fail(mesh.ReasonTimeout, ctx.Err())
		}
	}
}

func (p *Proxy) overdue(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return mesh.Fail(mesh.ReasonTimeout, ctx.Err())
	}
	p.flights.overdue.Add(1)
	return mesh.Fail(mesh.ReasonOverload, err)
}

// sourceOf is the pod in whose turn a handshake is.
func sourceOf(local *mesh.Workload) netip.Addr {
	if len(local.Addrs) == 0 {
		return netip.Addr{}
	}
	return local.Addrs[0]
}

// handshake gives a connection to the endpoint's agent. Where this process
// stood still meanwhile a failure is no word about the agent: it tries again.
func (p *Proxy) handshake(ctx context.Context, local *mesh.Workload, c *Choice, alpn string) (Conn, error) {
	began := time.Now()
	conn, err := p.handshakeOnce(ctx, local, c, alpn)
	if err != nil && ctx.Err() == nil && p.standstill.since(began) {
		return p.handshakeOnce(ctx, local, c, alpn)
	}
	return conn, err
}

func (p *Proxy) handshakeOnce(ctx context.Context, local *mesh.Workload, c *Choice, alpn string) (Conn, error) {
	config, err := p.Certs.ClientConfig(local.Identity, c.Key.Identity, alpn)
	if err != nil {
		return nil, err
	}
	raw, err := p.dialPlain(ctx, local, c)
	if err != nil {
		return nil, err
	}
	below := &watched{transport: transport{Conn: rawOf(raw)}, local: local, choice: Choice{Key: c.Key, Peer: c.Peer, from: local, failover: true}, http1: alpn == mtls.ALPNHTTP1, all: &p.watched}
	conn := tls.Client(below, config)
	if err := p.doHandshake(ctx, sourceOf(local), true, conn, &below.transport); err != nil {
		raw.Close()
		return nil, err
	}
	p.down.back(c.Peer.Addr)
	p.watched.add(below)
	return secure(conn, &below.transport), nil
}
