package server

import pb "github.com/underlane/underlane/api/control/v1"

// Stream is the server's end of one agent's stream without a connection: for tests that
// measure what thousands of agents cost.
type Stream struct {
	state    *syncState
	server   *Server // nil: each Next looks at a Snapshot
	follower *follower
}

// NewStream returns the stream of an agent whose first request is first.
func NewStream(node string, first *pb.SyncRequest) (*Stream, error) {
	st, err := newSyncState(newNumbers(), node, first)
	return &Stream{state: st}, err
}

// Simulate returns a stream that what s publishes wakes.
func (s *Server) Simulate(node string, first *pb.SyncRequest) (*Stream, error) {
	st, err := newSyncState(s.streams.numbers, node, first)
	return &Stream{state: st, server: s, follower: s.streams.join(node)}, err
}

// Next returns the delta to send now, nil if the agent has everything or has not answered. snap
// is what was published last.
func (s *Stream) Next(snap *Snapshot) *pb.Delta {
	if s.server != nil {
		if f := s.follower; s.state.synced && !f.busy.Load() && !f.concerned() {
			return nil // a stream is not woken by what does not concern it
		}
		return s.server.next(s.state, s.follower).message()
	}
	d := s.state.next(snap)
	s.state.moves = nil
	return d.message()
}

// Answered says that the agent has applied the last delta.
func (s *Stream) Answered() {
	s.state.pending, s.state.late.until, s.state.late.bytes = false, s.state.nonce, 0
}

// Looks returns how often Next has looked at everything that the agent has.
func (s *Stream) Looks() uint64 { return s.state.looks }

// Hurry wakes the streams that wait for more to come: for tests.
func (s *Server) Hurry() {
	s.streams.release(soon)
	s.streams.release(later)
}
