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

	"github.com/underlane/underlane/pkg/l7proxy/balance"
	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls"
	"github.com/underlane/underlane/pkg/mtls/certchain"
	"github.com/underlane/underlane/pkg/rawio"
)

// Bounds of mTLS handshakes. Each takes about a millisecond of processor time on either
// side. At most half of the processors compute them. A pod has a few of them under way
// with one agent at a time: the others wait here, and not in the queue of a node that
// gets handshakes from many.
const (
	turnsAtOnce = 8 // handshakes of one pod with one endpoint
	// queueLimit is how long a connection waits for its turn, or for an agent that
	// says that it is busy.
	queueLimit = time.Minute
	// busyFirst is the pause before a busy agent is tried again. It doubles up to
	// busyMost.
	busyFirst = 50 * time.Millisecond
	busyMost  = 400 * time.Millisecond
	// queuePatience is well below HandshakeSilence, after which an agent counts as away.
	queuePatience = time.Second
	// Inbound handshakes that are under way at a time.
	shakesMost       = 4096
	shakesOfSource   = 1024
	shakesOfStranger = 64
	// shakeWrite bounds the time that a peer takes to read the handshake.
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

var errTooLarge = mesh.Fail(mesh.ReasonTLSPeer, certchain.ErrHandshake)

// shaking is the state of a handshake that is under way: its turn at the gate, and how
// much longer the peer may make it wait in all.
type shaking struct {
	turn *computing
	left time.Duration
	room int // bytes that the peer may still send
}

// read returns what is there. If it has to wait, it gives the turn's slot away meanwhile.
// Only that wait counts against the peer, not the wait for a slot.
func (s *shaking) read(t *conn.Transport, p []byte) (int, error) {
	if s.room <= 0 {
		return 0, errTooLarge
	}
	p = p[:min(len(p), s.room)]
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
	s.room -= n
	return n, conn.EOFIsTruncation(err)
}

// Aside lets a callback of a handshake wait without its slot at the gate. Afterwards it
// tells how long the handshake has computed.
type Aside struct {
	turn  *computing
	began time.Duration // when the turn came, by balance.Now
}

// Do calls f, which may wait. Do must be called in the handshake's goroutine.
func (a *Aside) Do(f func()) {
	a.turn.Pause()
	defer a.turn.Resume()
	f()
}

// Computed returns how long the handshake has held its slot. It is 0 if the handshake got
// none.
func (a *Aside) Computed() time.Duration {
	if a.turn == nil {
		return 0
	}
	return a.turn.Computed()
}

// Handshake does the handshake of c in its turn at the gate. below carries c. from is the
// address that the handshake is counted to: the pod of this node that connects (own is
// set), or the client that has connected. aside, if it is not nil, works for as long as
// the handshake. The error wraps a *mesh.ReasonError.
func (p *transport) Handshake(ctx context.Context, from netip.Addr, own bool, c *tls.Conn, below *conn.Transport, aside *Aside) error {
	slot, err := p.gate.Enter(ctx, from, own)
	if errors.Is(err, mtls.ErrBusy) {
		return mesh.Fail(mesh.ReasonOverload, err)
	}
	if err != nil {
		return mesh.Fail(mesh.ReasonTimeout, err)
	}
	turn := &computing{Turn: slot, threads: p.Threads}
	if aside != nil {
		aside.turn, aside.began = turn, balance.Now()
	}
	below.Handshake = (&shaking{turn: turn, left: p.Limits.HandshakeSilence, room: certchain.MaxHandshake - len(below.Head)}).read
	_ = below.SetWriteDeadline(time.Now().Add(shakeWrite))
	proved := false
	defer func() {
		below.Handshake = nil
		turn.Leave(proved)
		_ = below.SetDeadline(time.Time{})
	}()
	err = onItsOwnStack(func() error {
		turn.begin()
		defer turn.end()
		return mtls.Handshake(ctx, c)
	})
	proved = err == nil
	return err
}

// turns are the handshakes of pods with agents of other nodes, including those that wait
// for their turn.
type turns struct {
	mu    sync.Mutex
	byKey map[turnKey]*queue

	overdue atomic.Uint64 // handshakes that gave up waiting
}

// turnKey separates the queues: connections of one pod to one endpoint wait only for each
// other. Where the network drops packets, or an agent is silent, each takes seconds.
type turnKey struct {
	source string // UID
	to     netip.AddrPort
}

type queue struct {
	gate     *mtls.Gate
	users    int
	answered time.Time // when an agent last completed a handshake
	lost     time.Time // when a connection last failed because the node did not answer
	cause    error     // of that failure
}

// board returns the queue of handshakes with an endpoint. The caller must call leave.
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

// ended records how a handshake ended.
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

// heard reports whether the agent has completed a handshake after a time.
func (f *turns) heard(one *queue, after time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return one.answered.After(after)
}

// lostSince returns the failure of another handshake if it found, after that time, that
// the node does not answer, and no agent has answered since. nil: there was none.
func (f *turns) lostSince(one *queue, after time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if one.lost.After(after) && !one.answered.After(one.lost) {
		return one.cause
	}
	return nil
}

var errQueue = fmt.Errorf("its turn did not come within %s", queueLimit)

// handshakeInTurn waits for its turn and calls handshake. It tries again, for a limited
// time, if the agent says that it is busy, or was silent here while it answered others.
// If others have found meanwhile that the agent or its node is away, it fails at once.
func (p *transport) handshakeInTurn(ctx context.Context, ep *Endpoint, alpn string) (conn.Conn, Result, error) {
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
	if p.down.is(ep) {
		return nil, ep.Expected(), errDown
	}
	if err := p.turns.lostSince(one, came); err != nil {
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

func (p *transport) overdue(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return mesh.Fail(mesh.ReasonTimeout, ctx.Err())
	}
	p.turns.overdue.Add(1)
	return mesh.Fail(mesh.ReasonOverload, err)
}

// sourceOf returns the address of a pod, under which its handshakes are counted. local may
// be nil: then the address is not valid.
func sourceOf(local *mesh.Workload) netip.Addr {
	if local == nil || len(local.Addrs) == 0 {
		return netip.Addr{}
	}
	return local.Addrs[0]
}

// handshake returns a connection to the endpoint's agent. If this process stood still
// meanwhile, a failure says nothing about the agent, and handshake tries once more.
func (p *transport) handshake(ctx context.Context, ep *Endpoint, alpn string) (conn.Conn, Result, error) {
	began := time.Now()
	c, result, err := p.handshakeOnce(ctx, ep, alpn)
	if err != nil && ctx.Err() == nil && p.stall.since(began) {
		return p.handshakeOnce(ctx, ep, alpn)
	}
	return c, result, err
}

func (p *transport) handshakeOnce(ctx context.Context, ep *Endpoint, alpn string) (conn.Conn, Result, error) {
	config, err := p.Certs.ClientConfig(ep.Client.Identity, ep.Key.Identity, alpn)
	if err != nil {
		return nil, ep.Expected(), err
	}
	raw, err := p.dialPlain(ctx, ep, ep.Peer.Addr)
	if err != nil {
		return nil, ep.Expected(), err
	}
	below := p.monitor(raw, ep)
	below.ep.HasOthers = true // a probe of its agent is given less time
	c := tls.Client(below, config)
	var aside Aside
	err = p.Handshake(ctx, sourceOf(ep.Client), true, c, &below.Transport, &aside)
	if p.OnHandshake != nil && ep.Client != nil {
		p.OnHandshake(ep.Client, aside.Computed())
	}
	ep.Took.shook(aside.began)
	if err != nil {
		raw.Close()
		return nil, ep.Expected(), p.dialError(ep, err)
	}
	p.down.back(ep)
	if below.dedicated = alpn == mtls.ALPNHTTP1; below.dedicated {
		p.dedicated.enter(ep.Key)
	}
	p.agents.add(below)
	result := ep.Expected()
	result.ALPN = c.ConnectionState().NegotiatedProtocol
	return conn.NewSecure(c, &below.Transport), result, nil
}

// proof returns what the handshake of a connection to the endpoint's agent has proved. It is
// nil if there was no handshake.
func (p *transport) proof(ep *Endpoint, c conn.Conn) *mtls.Proof {
	state := c.ConnectionState()
	if !state.HandshakeComplete || ep.Client == nil || p.Certs == nil {
		return nil
	}
	return p.Certs.ClientProof(ep.Client.Identity, ep.Key.Identity, state)
}
