// Package crowd limits the connections of strangers, so that these use up neither the
// descriptors nor the share of known peers.
package crowd

import (
	"container/list"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
)

// Crowd is the connections of strangers. A connection above a limit closes the oldest one.
// A peer that authenticates leaves the crowd soon; a peer that only keeps its connection
// open loses it. So a full crowd does not keep new peers out.
type Crowd struct {
	Total int // limit of connections
	Each  int // limit of connections from one address

	mu      sync.Mutex
	members list.List // of *member, the oldest first
	from    map[netip.Addr]int
	evicted atomic.Uint64
}

type member struct {
	conn  io.Closer
	from  netip.Addr
	place *list.Element // nil: it has left the crowd
}

// Len is the number of connections in the crowd.
func (c *Crowd) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.members.Len()
}

// Evicted counts the connections that were closed because of newer ones.
func (c *Crowd) Evicted() uint64 { return c.evicted.Load() }

// enter adds a connection. If that is above a limit, it closes the oldest one from the
// same address, or the oldest of all.
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

// tooMany returns the connection to close if another one comes from an address; nil: none.
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

// remove removes m, if it is in the crowd. The caller holds mu.
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

// Listen returns a listener whose connections are in the crowd. They are of type *Conn.
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

// Known takes the connection out of the crowd, because its peer has authenticated. It may
// be called again.
func (c *Conn) Known() { c.crowd.leave(c.place) }

// Close closes the connection.
func (c *Conn) Close() error {
	c.crowd.leave(c.place)
	return c.Conn.Close()
}

// Known takes conn out of its crowd, if it is in one. If conn is a TLS connection, it takes
// out the connection below it.
func Known(conn net.Conn) {
	if over, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = over.NetConn()
	}
	if c, ok := conn.(*Conn); ok {
		c.Known()
	}
}

// Source returns the IP address of a connection's peer, or the zero Addr if the connection
// is not TCP.
func Source(conn net.Conn) netip.Addr {
	if tcp, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}
