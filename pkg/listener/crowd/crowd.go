// Package crowd limits the connections of strangers, so that these use up neither the
// descriptors nor the share of known peers, nor the processor.
package crowd

import (
	"container/list"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/underlane/underlane/pkg/limit"
	"github.com/underlane/underlane/pkg/mesh"
)

// Crowd is the connections of strangers. A connection above a limit closes the oldest one.
// A peer that authenticates leaves the crowd soon; a peer that only keeps its connection
// open loses it. So a full crowd does not keep new peers out.
//
// A connection that comes too soon after others from its address is reset at once, before
// anything is read: closing older ones for it would cost the processor as much as the
// peer likes. Connections over loopback have no rate: they are the node's own.
type Crowd struct {
	Total     int // limit of connections
	Each      int // limit of connections from one address
	PerSecond int // limit of new connections from one address, beyond Burst; 0: none
	Burst     int // new connections from one address at once; 0: Each

	mu      sync.Mutex
	members list.List // of *member, the oldest first
	from    map[netip.Addr]*source
	sweepAt int // sources at which idle ones are deleted
	began   time.Time
	rate    limit.Rate
	evicted atomic.Uint64
	refused atomic.Uint64
}

type member struct {
	conn  io.Closer
	from  netip.Addr
	place *list.Element // nil: it has left the crowd
}

// source is an address with its connections in the crowd and the rate of new ones.
type source struct {
	open   int
	bucket limit.Bucket
}

// sweepFirst is the number of sources at which idle ones are first deleted.
const sweepFirst = 1024

// Len is the number of connections in the crowd.
func (c *Crowd) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.members.Len()
}

// Evicted counts the connections that were closed because of newer ones.
func (c *Crowd) Evicted() uint64 { return c.evicted.Load() }

// Refused counts the connections that were reset because too many came from their address
// in a short time.
func (c *Crowd) Refused() uint64 { return c.refused.Load() }

// allow reports whether a connection may come from an address now. One that leaves the
// crowd as known is not counted.
func (c *Crowd) allow(from netip.Addr) bool {
	if c.PerSecond <= 0 || from.IsLoopback() {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if ok, _ := c.source(from, now).bucket.Take(now, c.rate); ok {
		return true
	}
	c.refused.Add(1)
	return false
}

// now returns the time since the first call, which also makes the rate. The caller holds
// mu, also in the functions below.
func (c *Crowd) now() time.Duration {
	if c.began.IsZero() {
		c.began = time.Now()
		burst := c.Burst
		if burst == 0 {
			burst = c.Each
		}
		c.rate, _ = limit.NewRate(c.PerSecond, time.Second, burst) // fails for values below 1 only
	}
	return time.Since(c.began)
}

// source finds or makes a source.
func (c *Crowd) source(from netip.Addr, now time.Duration) *source {
	s := c.from[from]
	if s != nil {
		return s
	}
	if c.from == nil {
		c.from, c.sweepAt = map[netip.Addr]*source{}, sweepFirst
	}
	if len(c.from) >= c.sweepAt {
		for addr, s := range c.from {
			c.dropIdle(addr, s, now)
		}
		c.sweepAt = max(2*len(c.from), sweepFirst)
	}
	s = &source{}
	c.from[from] = s
	return s
}

// dropIdle deletes a source of which nothing has to be remembered.
func (c *Crowd) dropIdle(addr netip.Addr, s *source, now time.Duration) {
	if s.open == 0 && s.bucket.Idle(now) {
		delete(c.from, addr)
	}
}

// enter adds a connection. If that is above a limit, it closes the oldest one from the
// same address, or the oldest of all.
func (c *Crowd) enter(conn io.Closer, from netip.Addr) *member {
	c.mu.Lock()
	victim := c.tooMany(from)
	if victim != nil {
		c.remove(victim)
	}
	c.source(from, c.now()).open++
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
	case e != nil && c.from[from] != nil && c.from[from].open >= c.Each:
		for e.Value.(*member).from != from {
			e = e.Next()
		}
	case e == nil || c.members.Len() < c.Total:
		return nil
	}
	return e.Value.(*member)
}

// leave removes m, if it is in the crowd. known says that its peer has authenticated.
func (c *Crowd) leave(m *member, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known && m.place != nil && c.PerSecond > 0 && !m.from.IsLoopback() {
		c.from[m.from].bucket.Return(c.rate)
	}
	c.remove(m)
}

// remove removes m, if it is in the crowd.
func (c *Crowd) remove(m *member) {
	if m.place == nil {
		return
	}
	c.members.Remove(m.place)
	m.place = nil
	s := c.from[m.from]
	s.open--
	c.dropIdle(m.from, s, c.now())
}

// Listen returns a listener whose connections are in the crowd. They are of type *Conn.
func (c *Crowd) Listen(ln net.Listener) net.Listener { return &listener{ln, c} }

type listener struct {
	net.Listener
	crowd *Crowd
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if c := l.crowd.Admit(conn); c != nil {
			return c, nil
		}
	}
}

// Admit takes a connection into the crowd. It returns nil, and has reset it, if too many came
// from its address in a short time.
func (c *Crowd) Admit(conn net.Conn) *Conn {
	from := Source(conn)
	if !c.allow(from) {
		reset(conn)
		return nil
	}
	return &Conn{Conn: conn, crowd: c, place: c.enter(conn, from)}
}

// reset closes a connection with a reset, which leaves no state in the kernel.
func reset(conn net.Conn) {
	if tcp, ok := conn.(interface{ SetLinger(sec int) error }); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// Conn is a connection that is in the crowd until it is closed or Known.
type Conn struct {
	net.Conn
	crowd *Crowd
	place *member
}

// Known takes the connection out of the crowd, because its peer has authenticated. It may
// be called again.
func (c *Conn) Known() { c.crowd.leave(c.place, true) }

// Close closes the connection.
func (c *Conn) Close() error {
	c.crowd.leave(c.place, false)
	return c.Conn.Close()
}

// Known takes conn out of its crowd, if it is in one, or the connection below it, as that
// of a TLS connection.
func Known(conn net.Conn) {
	for {
		if c, ok := conn.(*Conn); ok {
			c.Known()
			return
		}
		over, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			return
		}
		conn = over.NetConn()
	}
}

// Source returns the IP address that a connection's peer is counted as (mesh.CountedAs), or
// the zero Addr if the connection is not TCP.
func Source(conn net.Conn) netip.Addr {
	if tcp, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		return mesh.CountedAs(tcp.AddrPort().Addr())
	}
	return netip.Addr{}
}
