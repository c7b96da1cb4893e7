package h1

import (
	"net/netip"
	"slices"

	"github.com/underlane/underlane/pkg/l7proxy/upstream"
)

// appConn is a connection to an endpoint.
type appConn = upstream.HTTP1Conn

// privateAtMost is how many idle connections of its own a session keeps.
const privateAtMost = 8

// keepPrivate keeps a connection for the next request of the session. If there are too
// many it closes the oldest.
func (d *link) keepPrivate(up *appConn) {
	if len(d.private) == privateAtMost {
		d.private[0].Close()
		d.private = slices.Delete(d.private, 0, 1)
	}
	d.private = append(d.private, up)
	if d.s.Paired() {
		up.WatchHangup(&d.driver.hangups, func() { d.endpointHungUp(up) })
	}
}

// partner returns the connection that an idle session ends with; nil: there is none.
func (d *link) partner() *appConn {
	if len(d.private) == 0 || !d.s.Paired() {
		return nil
	}
	return d.private[len(d.private)-1]
}

// takePrivate returns the newest of the session's own connections for key that is still
// alive, or nil. It closes the dead ones that it finds. held is that of HTTP1Conn.Open.
func (d *link) takePrivate(key upstream.Key, held bool) *appConn {
	for i := len(d.private) - 1; i >= 0; i-- {
		up := d.private[i]
		if up.Key != key {
			continue
		}
		d.private = slices.Delete(d.private, i, i+1)
		if up.Open(held) {
			return up
		}
		up.Close()
	}
	return nil
}

// checkPrivate closes the dead ones among the session's own connections, and tells the
// choice of an endpoint where the others lead.
func (d *link) checkPrivate() {
	d.private = slices.DeleteFunc(d.private, func(up *appConn) bool {
		if up.Idle() {
			return false
		}
		up.Close()
		return true
	})
	var at []netip.AddrPort
	for i := len(d.private) - 1; i >= 0; i-- {
		at = append(at, d.private[i].Key.Addr)
	}
	d.s.SetLoginEndpoints(at)
}

func closeAll(conns []*appConn) {
	for _, up := range conns {
		up.Close()
	}
}
