// Package crowd bounds the connections of peers that nobody knows yet, so that
// strangers take neither the descriptors nor the turn of those who are known.
package crowd

import (
	"container/list"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
)

// Crowd is the connections of strangers. One more than there may be closes the
// oldest: who has something to say is done soon and leaves, while those who only
// hold their place lose it. So a crowd that is full keeps nobody out.
type Crowd struct {
	Total int // strangers' connections, all together
	Each  int // of these, from one address

	mu      sync.Mutex
	members list.List // of *member, the oldest first
	from    map[netip.Addr]int
	evicted atomic.Uint64
}

type member struct {
	conn  io.Closer
	from  netip.Addr
	place *list.Element // nil: it has left
}

// Len is how many are in the crowd.
func (c *Crowd) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.members.Len()
}

// Evicted counts the connections that were closed for others.
func (c *Crowd) Evicted() uint64 { return c.evicted.Load() }

// enter adds a connection, and closes the oldest of its address, or of all, if it
// is one too many.
func (c *Crowd) enter(conn io.Closer, from netip.Addr) *member {
	c.mu.Lock()
	victim := c.tooMany(from)
	if victim != nil {
		c.remove(victim)
	}
	if c.from == nil {
		c.from = map[netip.Addr]int{}
	}
	c.from[from]++
	m := &member{conn: conn, from: from}
	m.place = c.members.PushBack(m)
	c.mu.Unlock()
	if victim != nil {
		c.evicted.Add(1)
		_ = victim.conn.Close()
	}
	return m
}

// tooMany is who goes if one more comes from an address; nil: nobody.
func (c *Crowd) tooMany(from netip.Addr) *member {
	e := c.members.Front()
	switch {
	case e != nil && c.from[from] >= c.Each:
		for e.Value.(*member).from != from {
			e = e.Next()
		}
	case e == nil || c.members.Len() < c.Total:
		return nil
	}
	return e.Value.(*member)
}

func (c *Crowd) leave(m *member) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(m)
}

// remove takes m out, if it is in. mu is held.
func (c *Crowd) remove(m *member) {
	if m.place == nil {
		return
	}
	c.members.Remove(m.place)
	m.place = nil
	if c.from[m.from]--; c.from[m.from] == 0 {
		delete(c.from, m.from)
	}
}

// Listen returns ln with whoever connects in the crowd, as *Conn.
func (c *Crowd) Listen(ln net.Listener) net.Listener { return &listener{ln, c} }

type listener struct {
	net.Listener
	crowd *Crowd
}

func (l *listener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &Conn{Conn: conn, crowd: l.crowd, place: l.crowd.enter(conn, Source(conn))}, nil
}

// Conn is a connection that is in the crowd until it is closed or Known.
type Conn struct {
	net.Conn
	crowd *Crowd
	place *member
}

// Known takes the connection out of the crowd: its peer has shown who it is. A
// second time is no harm.
func (c *Conn) Known() { c.crowd.leave(c.place) }

// Close closes the connection.
func (c *Conn) Close() error {
	c.crowd.leave(c.place)
	return c.Conn.Close()
}

// Known takes conn, or the connection below it if it is one of TLS, out of its
// crowd, if it is in one.
func Known(conn net.Conn) {
	if over, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = over.NetConn()
	}
	if c, ok := conn.(*Conn); ok {
		c.Known()
	}
}

// Source is the address that a connection comes from; the zero Addr if it is no
// IP address.
func Source(conn net.Conn) netip.Addr {
	if tcp, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}
