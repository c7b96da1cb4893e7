package h1

import (
	"net/netip"
	"slices"

	"github.com/underlane/underlane/pkg/l7proxy/upstream"
)

// appConn is a connection to an endpoint.
type appConn = upstream.HTTP1Conn

// privateAtMost bounds the connections that a session keeps to itself.
const privateAtMost = 8

// keepPrivate keeps a connection for the session's next request.
func (d *session) keepPrivate(up *appConn) {
	if len(d.private) == privateAtMost {
		d.private[0].Close()
		d.private = slices.Delete(d.private, 0, 1)
	}
	d.private = append(d.private, up)
}

// takePrivate is the session's own connection for key that is still alive, nil if
// there is none: the newest one.
func (d *session) takePrivate(key upstream.Key) *appConn {
	for i := len(d.private) - 1; i >= 0; i-- {
		up := d.private[i]
		if up.Key != key {
			continue
		}
		d.private = slices.Delete(d.private, i, i+1)
		if up.Idle() {
			return up
		}
		up.Close()
	}
	return nil
}

// checkPrivate drops what is not alive, before an endpoint is picked.
func (d *session) checkPrivate() {
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
