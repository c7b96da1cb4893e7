package l7proxy

import (
	"net/netip"
	"sync"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/mux"
	"github.com/underlane/underlane/pkg/mesh"
)

// movable has the shared connections of opaque streams that agents of other nodes have made,
// by their addresses: a stream that moves names the connection on which it is. The zero value
// is ready.
type movable struct{ conns sync.Map } // wire → movableConn

// wire are the addresses of a connection.
type wire struct{ client, server netip.AddrPort }

// movableConn is a shared connection, and who has proved to be at its other end.
type movableConn struct {
	conn     *mux.Conn
	identity mesh.Identity
	pod      string // UID of the server's
}

func wireOf(s *session) wire { return wire{s.Source.Addr, s.Original} }

func (m *movable) add(s *session, c *mux.Conn) {
	m.conns.Store(wireOf(s), movableConn{c, s.Source.Identity, s.inbound.Local().UID})
}

func (m *movable) remove(s *session) { m.conns.Delete(wireOf(s)) }

// from returns the connection from which a stream moves to a connection of s: one from the
// same client's address to the same address, by the same identity. It is nil if there is none.
func (m *movable) from(s *session, what mux.Moves) *mux.Conn {
	is := wireOf(s)
	is.client = netip.AddrPortFrom(is.client.Addr(), what.Port)
	found, ok := m.conns.Load(is)
	if !ok {
		return nil
	}
	one := found.(movableConn)
	if one.identity != s.Source.Identity || one.pod != s.inbound.Local().UID {
		return nil
	}
	return one.conn
}

// moveTime is how long an agent may take to say which stream moves to a connection that it has
// made for that.
const moveTime = 10 * time.Second

// serveMove has a stream of another connection of the client's agent go on at this one, and
// returns when it has ended. If there is no such stream, the connection is closed.
func (s *session) serveMove() {
	s.Quota.Settle() // the stream has spoken
	_ = s.Client.SetReadDeadline(time.Now().Add(moveTime))
	what, err := mux.ReadMoves(s.Client)
	if err != nil {
		return
	}
	_ = s.Client.SetReadDeadline(time.Time{})
	from := s.proxy.movable.from(s, what)
	if from == nil {
		return
	}
	s.Task.Pause() // the stream has a Task of its own
	if gone := from.Adopt(what.ID, s.Client); gone != nil {
		<-gone
	}
}
