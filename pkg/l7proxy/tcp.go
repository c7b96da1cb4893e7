package l7proxy

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/detect"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls"
	"github.com/underlane/underlane/pkg/rawio"
	"github.com/underlane/underlane/pkg/tap"
)

// buffers are what bytes lie in while they are in flight.
const bufferSize = 32 << 10

var buffers = sync.Pool{New: func() any { b := make([]byte, bufferSize); return &b }}

func getBuffer() *[]byte { return buffers.Get().(*[]byte) }

// putBuffer gives a buffer back; one that was made bigger for a large head is
// left to the collector, so that all buffers are alike.
func putBuffer(b *[]byte) {
	if len(*b) == bufferSize {
		buffers.Put(b)
	}
}

// A direction that fills its buffer is bulk: it gets a buffer of what the network
// takes at once, four whole records of TLS.
const (
	bulkSize = 64 << 10
	bulkFrom = 8 << 10 // a read of so much is likely to be followed by more
)

var bulks = sync.Pool{New: func() any { b := make([]byte, bulkSize); return &b }}

// putBulk gives a buffer back, of either size.
func putBulk(b *[]byte) {
	if len(*b) == bulkSize {
		bulks.Put(b)
		return
	}
	putBuffer(b)
}

// serveTCP carries bytes both ways until both sides have ended theirs. up is
// the connection to the endpoint, nil if there is none yet.
func (s *Session) serveTCP(ctx context.Context, up *opened, proto detect.Protocol) {
	if up == nil {
		choice, conn, err := s.reach(ctx, mtls.ALPNTCP)
		switch {
		case choice == nil:
			s.failConn(err)
			return
		case err != nil:
			s.failConnTo(choice, err)
			return
		}
		up = &opened{choice: choice, conn: conn}
	}
	defer up.discard()
	up.choice.connected()
	began := time.Now()
	e := s.connEvent(up.choice)
	e.Protocol = "tcp"
	if proto == detect.TLS {
		e.Protocol = "tls"
	}
	s.emit(&e, tap.ConnOpen, began)
	r := relay{client: s.Client, server: up.conn}
	r.toServer.Add(uint64(len(s.Head)))
	r.toClient.Add(uint64(len(up.first)))
	reason := mesh.ReasonUpstreamReset
	if up.err == nil {
		reason = r.run(s.Head, up.first)
	} else {
		r.cut(reason)
	}
	e.ReadBytes, e.WriteBytes = r.toServer.Load(), r.toClient.Load()
	e.Reason, e.Reset = reason, reason != mesh.ReasonNone
	e.Duration = time.Since(began)
	s.emit(&e, tap.ConnClose, time.Now())
}

func (s *Session) connEvent(c *Choice) tap.Event {
	e := tap.Event{
		Direction: s.Direction, Base: s.ID,
		Source: s.source(), Destination: s.destination(),
		TLS: s.TLS, SNI: s.SNI, Process: s.Process,
	}
	if s.target != nil {
		e.Service = s.target.service()
	}
	if c != nil {
		e.Destination = c.peer()
		if s.Direction == mesh.Outbound {
			e.TLS = c.TLS
		}
	}
	return e
}

func (s *Session) emit(e *tap.Event, kind tap.Kind, at time.Time) {
	e.Kind, e.Time = kind, at
	s.proxy.Tap.Emit(e)
}

// failConn ends a connection that got no further: the client sees a reset, tap
// the reason.
func (s *Session) failConn(err error) { s.failConnTo(nil, err) }

func (s *Session) failConnTo(c *Choice, err error) {
	s.tellFailure(c, err)
	reset(s.Client)
}

// tellFailure shows tap a connection that got no further.
func (s *Session) tellFailure(c *Choice, err error) {
	e := s.connEvent(c)
	e.Protocol = "tcp"
	e.Reason, e.Reset = reasonOf(err), true
	s.emit(&e, tap.ConnClose, time.Now())
	s.proxy.Log.Debug("connection failed", "src", s.Source.Addr, "dst", e.Destination.Addr, "reason", e.Reason, "err", err)
}

// alertTime is how long a refused peer has to read the alert that says why.
const alertTime = time.Second

// refuse ends a connection whose handshake failed. The peer's agent may be
// sending a request already, for a client of TLS 1.3 is done first: a reset
// now would take the alert from it, and its tap would not say tls-refused.
func (s *Session) refuse(c *rawio.Conn, err error) {
	s.tellFailure(nil, err)
	if c.CloseWrite() != nil {
		return
	}
	_ = c.SetReadDeadline(time.Now().Add(alertTime))
	_, _ = io.Copy(io.Discard, c)
}

// reset makes the peer see that the stream was cut.
func reset(c Conn) {
	if raw := rawOf(c); raw != nil {
		_ = raw.Reset()
	}
	switch c := c.(type) {
	case *secureConn:
		c.NetConn().Close() // without an alert, which would be an end in order
	case *muxStream:
		_ = c.Reset()
	default:
		c.Close()
	}
}

// rawOf is the TCP connection below c.
func rawOf(c Conn) *rawio.Conn {
	switch c := c.(type) {
	case *rawio.Conn:
		return c
	case *secureConn:
		return c.raw
	case *watchedFirst:
		return rawOf(c.Conn)
	}
	return nil
}

// relay copies bytes both ways, each direction in a goroutine of its own. An
// end of one direction is passed on as such; a failure cuts both.
type relay struct {
	client, server     Conn
	toServer, toClient atomic.Uint64

	cutOnce sync.Once
	reason  mesh.Reason // why it was cut: the first failure, the others follow from it
}

// run returns why the relay was cut, ReasonNone if both sides ended in order.
func (r *relay) run(fromClient, fromServer []byte) mesh.Reason {
	var down sync.WaitGroup
	down.Go(func() {
		r.copy(r.client, r.server, fromServer, &r.toClient, mesh.ReasonUpstreamReset, mesh.ReasonClientReset)
	})
	r.copy(r.server, r.client, fromClient, &r.toServer, mesh.ReasonClientReset, mesh.ReasonUpstreamReset)
	down.Wait()
	return r.reason
}

// copy moves one direction to its end. readFails and writeFails name the side
// that a failure is put down to.
func (r *relay) copy(dst, src Conn, first []byte, n *atomic.Uint64, readFails, writeFails mesh.Reason) {
	if len(first) > 0 {
		if _, err := dst.Write(first); err != nil {
			r.cut(writeFails)
			return
		}
	}
	buf := getBuffer()
	defer func() { putBulk(buf) }()
	records, _ := src.(*secureConn)
	if records != nil {
		defer records.below.readAhead(false)
	}
	for full := false; ; {
		m, err := src.Read(*buf)
		if records != nil && err == nil && m >= bulkFrom {
			var more int
			more, err = records.readMore((*buf)[m:])
			m += more
		}
		if m > 0 {
			n.Add(uint64(m))
			if _, err := dst.Write((*buf)[:m]); err != nil {
				r.cut(writeFails)
				return
			}
			was := full
			if full = m == len(*buf); !full {
				awaitMore(src, m, was)
			}
		}
		if m == bufferSize && err == nil {
			putBulk(buf)
			buf = bulks.Get().(*[]byte)
			if records != nil {
				records.below.readAhead(true)
			}
		}
		if err == io.EOF {
			if dst.CloseWrite() != nil {
				r.cut(writeFails)
			}
			return
		}
		if err == errLate {
			r.cut(mesh.ReasonRequestTimeout)
			return
		}
		if err != nil {
			r.cut(readFails)
			return
		}
	}
}

func (r *relay) cut(reason mesh.Reason) {
	r.cutOnce.Do(func() {
		r.reason = reason
		reset(r.client)
		reset(r.server)
	})
}
