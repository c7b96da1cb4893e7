package l7proxy

import (
	"net/netip"
	"runtime/debug"
	"sync"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/balance"
	"github.com/underlane/underlane/pkg/l7proxy/conn"
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
func (s *session) serveMux(kind mux.Kind, serve serveOne) {
	p := s.proxy
	s.Quota.Settle() // its streams are sessions of their own
	line := streamLine{usage: s.Quota}
	c := mux.NewServer(kind, s.Client, &s.Task, line.add)
	line.serve = func(stream *mux.Stream) *servedStream { return s.serveStream(c, stream, serve) }
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

// serveOne serves a stream. It returns what its driver does.
type serveOne func(*Proxy, *request.Session) request.Rest

// serveHTTP1 serves a stream with requests.
func serveHTTP1(p *Proxy, s *request.Session) request.Rest {
	return p.h1.Serve(s, nil)
}

// serveOpaqueStream serves a stream that is an opaque connection.
func serveOpaqueStream(p *Proxy, s *request.Session) request.Rest {
	return opaque.Serve(p.lifetime.Ended, s, nil, detect.Opaque.String())
}

// servedStream is a stream that goes on without the goroutine that has begun to serve it.
type servedStream struct {
	session *session // of the shared connection
	stream  *mux.Stream
	one     *request.Session
	on      request.Rest
}

// serveStream serves a stream like a connection of the same client. c is its connection. It
// returns nil if the stream has ended.
//
// An opaque stream is accepted where the handshake of a connection would be, and refused
// otherwise: the client's agent then makes a connection.
func (s *session) serveStream(c *mux.Conn, stream *mux.Stream, serve serveOne) (on *servedStream) {
	one := s.sessionOf(stream)
	if !s.admit(c, stream, one) {
		stream.Close()
		return nil
	}
	defer func() {
		if defect := recover(); defect != nil {
			s.cutByDefect(stream, &conn.Defect{What: defect, Stack: debug.Stack()})
			on = nil
		}
		if on == nil {
			endStream(one, stream)
		}
	}()
	if carried := serve(s.proxy, one); carried != nil {
		return &servedStream{s, stream, one, carried}
	}
	return nil
}

// goOn has over called when the stream has ended, in a goroutine that may wait.
func (st *servedStream) goOn(over func()) {
	st.on.GoOn(func(defect *conn.Defect) {
		if defect != nil {
			st.session.cutByDefect(st.stream, defect)
		}
		endStream(st.one, st.stream)
		over()
	})
}

// endStream ends what serves a stream.
func endStream(one *request.Session, stream *mux.Stream) {
	one.Task.Pause()
	one.Quota.Leave()
	stream.Close()
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

// cutByDefect cuts a stream whose service has panicked. A defect that the bytes of one connection
// trigger must not end the traffic of the whole node.
func (s *session) cutByDefect(stream *mux.Stream, defect *conn.Defect) {
	s.proxy.panics.Add(1)
	s.Log.Error("connection cut by a defect: please report this", "client", s.Source.Addr, "destination", s.Original,
		"panic", defect.What, "stack", string(defect.Stack))
	_ = stream.Reset()
}

// servedMost is how many streams of one shared connection are served at a time. The peer
// may have mux.MaxStreams open. It may open another one as soon as it has reset one, and
// the service of that one ends a moment later: as many may be ending.
const servedMost = 2 * mux.MaxStreams

// streamLine serves the streams of a shared connection, at most servedMost at a time.
// Others wait. Those that the peer resets meanwhile are dropped.
type streamLine struct {
	serve func(*mux.Stream) *servedStream
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
		l.sessions.Add(1)
		go l.run(stream)
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

// run serves a stream, and then those that wait, until one goes on without this goroutine.
func (l *streamLine) run(stream *mux.Stream) {
	for stream != nil {
		if on := l.serve(stream); on != nil {
			on.goOn(func() { l.run(l.next()) })
			return
		}
		stream = l.next()
	}
	l.sessions.Done()
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
