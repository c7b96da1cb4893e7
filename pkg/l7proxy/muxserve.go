package l7proxy

import (
	"runtime/debug"
	"sync"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/h2"
	"github.com/underlane/underlane/pkg/l7proxy/mux"
	"github.com/underlane/underlane/pkg/l7proxy/request"
	"github.com/underlane/underlane/pkg/mesh"
)

// serveMux serves a shared connection of another agent to its end. Each of its streams is
// a session.
func (s *session) serveMux() {
	p := s.proxy
	var sessions sync.WaitGroup
	c := mux.NewServer(s.Client, &s.Task, func(stream *mux.Stream) {
		sessions.Go(func() { s.serveStream(stream) })
	})
	p.muxes.Enter(c)
	defer p.muxes.Leave(c)
	if h2.EndReason(c.Run(s.Head)) == mesh.ReasonOverload {
		p.muxFloods.Add(1)
	}
	s.Task.Pause()
	sessions.Wait()
	c.End()
}

// serveStream serves a stream like a connection of the same client.
func (s *session) serveStream(stream *mux.Stream) {
	defer stream.Close()
	p, local := s.proxy, s.inbound.Local()
	one := &request.Session{
		Core: &p.core, ID: p.ids.Add(1), Client: stream,
		Direction: s.Direction, Source: s.Source, Original: s.Original, TLS: s.TLS,
		Target: p.directory.Inbound(local, s.Original, s.inbound.FromNode()),
	}
	if !s.inbound.FromNode() {
		if !p.enter(one, local) {
			return
		}
		defer one.Quota.Leave()
		defer one.Task.Pause()
	}
	stream.Charge(one.Quota)
	defer s.contain(stream)
	p.h1.Serve(one, conn.GetBuffer())
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
