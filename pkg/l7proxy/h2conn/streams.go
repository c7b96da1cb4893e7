package h2conn

import "github.com/underlane/underlane/pkg/l7proxy/http2"

// Streams is the table of a connection's streams, in the owner's type. The connection's
// lock guards it.
type Streams[S any] struct {
	conn *Conn
	byID http2.Table[S]
}

// NewStreams makes an empty table of the streams of c.
func NewStreams[S any](c *Conn) Streams[S] { return Streams[S]{conn: c} }

// Get returns the stream of that id, and whether there is one. It takes the lock.
func (s *Streams[S]) Get(id uint32) (S, bool) {
	s.conn.Lock()
	defer s.conn.Unlock()
	return s.byID.Get(id)
}

// Put adds a stream. The caller holds the lock.
func (s *Streams[S]) Put(id uint32, one S) { s.byID.Put(id, one) }

// Delete removes a stream: its later events are dropped. The caller holds the lock.
func (s *Streams[S]) Delete(id uint32) { s.byID.Delete(id) }

// Len is the number of streams. The caller holds the lock.
func (s *Streams[S]) Len() int { return s.byID.Len() }

// All returns the streams of this moment. It takes the lock.
func (s *Streams[S]) All() []S {
	s.conn.Lock()
	defer s.conn.Unlock()
	return s.list()
}

// TakeAll closes the connection, so that no further stream is added, and removes and
// returns its streams. It takes the lock.
func (s *Streams[S]) TakeAll() []S {
	s.conn.Lock()
	defer s.conn.Unlock()
	s.conn.Close()
	all := s.list()
	s.byID.Clear()
	return all
}

func (s *Streams[S]) list() []S {
	all := make([]S, 0, s.byID.Len())
	for _, one := range s.byID.All() {
		all = append(all, one)
	}
	return all
}
