package h2conn

// Streams is the table of a connection's streams, in the owner's type. The connection's
// lock guards it.
type Streams[S any] struct {
	conn *Conn
	byID map[uint32]S
}

// NewStreams makes an empty table of the streams of c.
func NewStreams[S any](c *Conn) Streams[S] { return Streams[S]{c, make(map[uint32]S)} }

// Get returns the stream of that id, and whether there is one. It takes the lock.
func (s *Streams[S]) Get(id uint32) (S, bool) {
	s.conn.Lock()
	defer s.conn.Unlock()
	one, ok := s.byID[id]
	return one, ok
}

// Put adds a stream. The caller holds the lock.
func (s *Streams[S]) Put(id uint32, one S) { s.byID[id] = one }

// Delete removes a stream: its later events are dropped. The caller holds the lock.
func (s *Streams[S]) Delete(id uint32) { delete(s.byID, id) }

// Len is the number of streams. The caller holds the lock.
func (s *Streams[S]) Len() int { return len(s.byID) }

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
	clear(s.byID)
	return all
}

func (s *Streams[S]) list() []S {
	all := make([]S, 0, len(s.byID))
	for _, one := range s.byID {
		all = append(all, one)
	}
	return all
}
