package l7proxy

import (
	"slices"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/http2"
)

// Between two agents the HTTP/1 connections of one client workload to one
// endpoint are streams of shared mTLS connections: what many of them write at a
// time goes out in one record by one system call, and a new one costs no
// handshake. The bytes are HTTP/1's as they are. A stream is an HTTP/2 CONNECT
// (RFC 9113 §8.5), with HTTP/2's windows, and to both drivers it is a connection
// like any other.

const (
	// muxStreams are the streams of one shared connection. All of their windows
	// fit into the connection's: none that is not read stops the others.
	muxStreams = 64
	// muxConnsPerKey bounds the shared connections to an endpoint. Beyond, each
	// HTTP/1 connection has one of its own.
	muxConnsPerKey = 64
	// muxFrom is how many connections to an endpoint are not shared: those that
	// little traffic takes.
	muxFrom = 4
)

var (
	muxOpen = []http2.Field{{Name: ":method", Value: "CONNECT"}, {Name: ":authority", Value: "http:80"}}
	muxOK   = []http2.Field{{Name: ":status", Value: "200"}}
)

// mux is one end of a shared connection.
type mux struct {
	*h2conn
	accept func(*muxStream) // server: what a new stream is given to; it must not wait

	open    map[uint32]*muxStream // mu guards it, and what follows
	stalled []*muxStream          // turned away by the connection, not by their own window
	idle    time.Time             // since when there is no stream

	goingAway func() // client: called when the peer takes no further stream
}

func newMux(nc Conn, role http2.Role, accept func(*muxStream)) *mux {
	m := &mux{
		h2conn: newH2Conn(nc, http2.Config{Role: role, MaxStreams: muxStreams, ConnWindow: muxStreams * http2.DefaultStreamWindow}),
		accept: accept,
		open:   make(map[uint32]*muxStream),
		idle:   time.Now(),
	}
	m.opened = m.resumeStalled
	return m
}

// run carries the connection to its end, which is that of its streams.
func (m *mux) run(head []byte) error {
	go m.flush()
	err := m.read(m, head)
	m.mu.Lock()
	m.closed = true
	streams := make([]*muxStream, 0, len(m.open))
	for _, s := range m.open {
		streams = append(streams, s)
	}
	m.mu.Unlock()
	for _, s := range streams {
		s.fail(whole(err))
	}
	return err
}

// stream opens a stream; nil if the connection takes no more.
func (m *mux) stream() *muxStream {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed || m.engine.Streams() >= muxStreams {
		return nil
	}
	id, err := m.engine.OpenStream(muxOpen, false) // it goes out with the first bytes
	if err != nil {
		return nil
	}
	s := newMuxStream(m, id)
	m.open[id] = s
	return s
}

// forget takes a stream off the connection.
func (m *mux) forget(id uint32) {
	m.mu.Lock()
	delete(m.open, id)
	if len(m.open) == 0 {
		m.idle = time.Now()
	}
	m.mu.Unlock()
}

func (m *mux) find(id uint32) *muxStream {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.open[id]
}

// event implements h2owner.
func (m *mux) event(ev *http2.Event, b *h2batch) {
	if ev.Kind == http2.EventWindowOpened && ev.Stream == 0 {
		m.resumeStalled(b)
		return
	}
	s := m.find(ev.Stream)
	switch ev.Kind {
	case http2.EventGoAway:
		if m.goingAway != nil {
			m.goingAway()
		}
	case http2.EventHeaders:
		switch {
		case s == nil && m.accept != nil && !ev.Trailers:
			s = m.take(ev.Stream, b)
			m.accept(s)
		case s == nil:
			return
		}
		if ev.EndStream {
			s.deliver(nil, true)
		}
	case http2.EventMalformed:
		m.reset(ev.Stream, http2.ProtocolError, b)
	case http2.EventData:
		if s != nil {
			s.deliver(ev.Payload, ev.EndStream)
			return
		}
		m.consume(ev.Stream, len(ev.Payload))
		if len(ev.Payload) > 0 {
			m.reset(ev.Stream, http2.Cancel, b) // nobody reads it any more
		}
	case http2.EventReset:
		if s != nil {
			s.fail(errMuxReset)
		}
	case http2.EventWindowOpened:
		if s != nil {
			s.mayWrite()
		}
	}
}

// take makes a stream of one that the peer opened.
func (m *mux) take(id uint32, b *h2batch) *muxStream {
	s := newMuxStream(m, id)
	m.mu.Lock()
	m.open[id] = s
	_ = m.engine.WriteHeaders(id, muxOK, false)
	m.mu.Unlock()
	b.add(m.h2conn)
	return s
}

// consume gives the peer n bytes of window back; it is told with the next send.
func (m *mux) consume(id uint32, n int) {
	m.mu.Lock()
	m.engine.Consume(id, n)
	m.mu.Unlock()
}

// resumeStalled lets writers go on that the connection turned away.
func (m *mux) resumeStalled(*h2batch) {
	m.mu.Lock()
	stalled := m.stalled
	m.stalled = nil
	m.mu.Unlock()
	for _, s := range stalled {
		s.mayWrite()
	}
}

// idleFor is how long the connection has had no stream.
func (m *mux) idleFor() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.open) > 0 {
		return 0
	}
	return time.Since(m.idle)
}

// offer writes as much of p as the windows take now.
func (m *mux) offer(s *muxStream, p []byte) (int, error) {
	m.mu.Lock()
	n, err := m.engine.WriteData(s.id, p, false)
	if err == nil && n < len(p) && m.engine.Blocked() && !slices.Contains(m.stalled, s) {
		m.stalled = append(m.stalled, s)
	}
	m.mu.Unlock()
	m.send()
	return n, err
}

// finishWriting ends this side of a stream.
func (m *mux) finishWriting(id uint32) error {
	m.mu.Lock()
	_, err := m.engine.WriteData(id, nil, true)
	m.mu.Unlock()
	m.send()
	return err
}

// leave ends both sides of a stream in order, this one's as well if end is set:
// what the peer still says is nobody's (NO_ERROR, RFC 9113 §8.1).
func (m *mux) leave(id uint32, end bool) {
	m.mu.Lock()
	if end {
		_, _ = m.engine.WriteData(id, nil, true)
	}
	m.engine.WriteReset(id, http2.NoError)
	m.mu.Unlock()
	m.send()
}

// cancel resets a stream.
func (m *mux) cancel(id uint32) {
	m.mu.Lock()
	m.engine.WriteReset(id, http2.Cancel)
	m.mu.Unlock()
	m.send()
}

var _ h2owner = (*mux)(nil)
