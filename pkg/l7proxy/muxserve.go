package l7proxy

import (
	"net/netip"
	"runtime/debug"
	"sync"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/balance"
	"github.com/underlane/underlane/pkg/l7proxy/detect"
	"github.com/underlane/underlane/pkg/l7proxy/h2"
	"github.com/underlane/underlane/pkg/l7proxy/mux"
	"github.com/underlane/underlane/pkg/l7proxy/opaque"
	"github.com/underlane/underlane/pkg/l7proxy/quota"
	"github.com/underlane/underlane/pkg/l7proxy/request"
	"github.com/underlane/underlane/pkg/mesh"
)

// endedWait is about the most that the next shared connection of a source waits because streams of
// those before have ended with them, as when its agent is killed while pods are reading.
const endedWait = time.Second

// serveMux serves a shared connection of another agent to its end. Each of its streams is
// a session, which serve carries.
func (s *session) serveMux(kind mux.Kind, serve func(*Proxy, *request.Session)) {
	p := s.proxy
	s.Quota.Settle() // its streams are sessions of their own
	line := streamLine{usage: s.Quota}
	c := mux.NewServer(kind, s.Client, &s.Task, line.add)
	line.serve = func(stream *mux.Stream) { s.serveStream(c, stream, serve) }
	c.Budget, c.Source, c.Hangups = s.Quota, s.Quota, s.Hangups
	if kind == mux.Opaque {
		p.movable.add(s, c)
		defer p.movable.remove(s)
	}
	if state := s.Client.ConnectionState(); state.HandshakeComplete && kind == mux.Opaque {
		c.Proof = p.Certs.ServerProof(state)
	}
	c.OnVain(func(cost int, ended bool) time.Duration {
		if ended {
			p.core.Paces.AddUpTo(s.From, balance.Now(), cost, endedWait)
			return 0
		}
		wait := p.core.Paces.Add(s.From, balance.Now(), cost)
		if wait > 0 {
			p.muxPaced.Add(1)
		}
		return wait
	})
	if wait := p.core.Paces.Start(s.From, balance.Now()); wait > 0 {
		p.muxPaced.Add(1)
		s.Hold(wait)
	}
	p.muxes.Enter(c)
	defer p.muxes.Leave(c)
	if h2.EndReason(c.Run(s.Head)) == mesh.ReasonOverload {
		p.muxFloods.Add(1)
	}
	s.Task.Pause()
	line.end()
	c.End()
}

// serveHTTP1 serves a stream with requests.
func serveHTTP1(p *Proxy, s *request.Session) { p.h1.Serve(s, nil) }

// serveOpaqueStream serves a stream that is an opaque connection.
func serveOpaqueStream(p *Proxy, s *request.Session) {
	opaque.Serve(p.lifetime.Ended, s, nil, detect.Opaque.String())
}

// serveStream serves a stream like a connection of the same client. c is its connection.
//
// An opaque stream is accepted where the handshake of a connection would be, and refused
// otherwise: the client's agent then makes a connection.
func (s *session) serveStream(c *mux.Conn, stream *mux.Stream, serve func(*Proxy, *request.Session)) {
	defer stream.Close()
	one := s.sessionOf(stream)
	if !s.admit(c, stream, one) {
		return
	}
	defer one.Quota.Leave()
	defer one.Task.Pause()
	defer s.contain(stream)
	serve(s.proxy, one)
}

// The functions that serveStream calls before the stream is carried are not inlined: the
// goroutine of each stream keeps their frames otherwise, for as long as the stream is open.

// sessionOf returns the session of a stream.
//
//go:noinline
func (s *session) sessionOf(stream *mux.Stream) *request.Session {
	p, local := s.proxy, s.inbound.Local()
	one := &request.Session{}
	one.Core, one.ID, one.Client = &p.core, p.ids.Add(1), stream
	one.Direction, one.Source, one.Original, one.TLS, one.From = s.Direction, s.Source, s.Original, s.TLS, s.From
	one.Target = p.directory.Inbound(local, s.Original, s.inbound.FromNode())
	if port := stream.Port; port != 0 {
		one.Source.Addr = netip.AddrPortFrom(one.Source.Addr.Addr(), port)
	}
	return one
}

// admit counts a stream as a connection of the pod, and accepts it. It returns false if it has
// ended the stream.
//
//go:noinline
func (s *session) admit(c *mux.Conn, stream *mux.Stream, one *request.Session) bool {
	p, local, single := s.proxy, s.inbound.Local(), stream.Port != 0
	if single && !(c.Proof.Holds() && p.directory.AtHome(s.Source.Addr.Addr(), s.Source.Identity)) {
		_ = stream.Refuse()
		return false
	}
	if !s.inbound.FromNode() {
		usage, err := p.pods.Enter(quota.Key{UID: local.UID, Direction: one.Direction}, one.From, streamDescriptors)
		if err != nil && single {
			_ = stream.Refuse()
			return false
		}
		p.turn(one, local)
		if err != nil {
			one.FailConn(nil, mesh.Fail(mesh.ReasonOverload, err))
			one.Task.Pause()
			return false
		}
		one.Quota = usage
	}
	stream.Charge(one.Quota)
	if single {
		stream.Accept()
	}
	return true
}

// contain recovers from a panic while a stream is served, and cuts the stream. A defect
// that the bytes of one connection trigger must not end the traffic of the whole node.
func (s *session) contain(stream *mux.Stream) {
	if defect := recover(); defect != nil {
		s.proxy.panics.Add(1)
		s.Log.Error("connection cut by a defect: please report this", "client", s.Source.Addr, "destination", s.Original,
			"panic", defect, "stack", string(debug.Stack()))
		_ = stream.Reset()
	}
}

// servedMost is how many streams of one shared connection are served at a time. The peer
// may have mux.MaxStreams open. It may open another one as soon as it has reset one, and
// the service of that one ends a moment later: as many may be ending.
const servedMost = 2 * mux.MaxStreams

// streamLine serves the streams of a shared connection, at most servedMost at a time.
// Others wait. Those that the peer resets meanwhile are dropped.
type streamLine struct {
	serve func(*mux.Stream)
	usage *quota.Usage // the bytes of streams that wait are charged to it

	mu       sync.Mutex
	serving  int
	waiting  []*mux.Stream
	sessions sync.WaitGroup
}

// add takes a new stream. It does not wait.
func (l *streamLine) add(stream *mux.Stream) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.serving < servedMost {
		l.serving++
		l.sessions.Go(func() { l.run(stream) })
		return
	}
	if len(l.waiting) >= 2*mux.MaxStreams {
		l.dropGone()
	}
	stream.Charge(l.usage)
	l.waiting = append(l.waiting, stream)
}

// dropGone drops the streams that were reset while they waited: all but mux.MaxStreams at
// most. The caller holds the lock.
func (l *streamLine) dropGone() {
	kept := l.waiting[:0]
	for _, stream := range l.waiting {
		if _, gone := stream.PeerClosed(); gone {
			_ = stream.Close()
		} else {
			kept = append(kept, stream)
		}
	}
	clear(l.waiting[len(kept):])
	l.waiting = kept
}

// run serves a stream, and then those that wait.
func (l *streamLine) run(stream *mux.Stream) {
	for stream != nil {
		l.serve(stream)
		stream = l.next()
	}
}

func (l *streamLine) next() *mux.Stream {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.waiting) > 0 {
		stream := l.waiting[0]
		l.waiting[0] = nil
		l.waiting = l.waiting[1:]
		if _, gone := stream.PeerClosed(); !gone {
			return stream
		}
		_ = stream.Close()
	}
	l.waiting = nil
	l.serving--
	return nil
}

// end waits for the end of all streams. The connection has ended.
func (l *streamLine) end() { l.sessions.Wait() }
