package carry

import (
	"net/netip"
	"time"

	"github.com/underlane/underlane/pkg/fairshare"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/rawio"
	"github.com/underlane/underlane/pkg/tap"
)

// Handler serves connections of pods. Each method returns when the connection is
// over.
type Handler interface {
	// ServeOutbound serves a connection that local opened to dst. process is the name of
	// the program that has opened it.
	ServeOutbound(c *rawio.Conn, local *mesh.Workload, dst netip.AddrPort, process string)
	// ServeInbound serves a connection that was opened to local.
	ServeInbound(c *rawio.Conn, local *mesh.Workload)
	// Turns returns the turns of a goroutine that accepts connections of local, or to it.
	Turns(local *mesh.Workload, d mesh.Direction) *fairshare.Task
}

func (c *Carrier) outbound(p *pod, conn *rawio.Conn) {
	w, ended := c.begin(p, conn, p.conns)
	if w == nil {
		return
	}
	defer c.end(p, conn, p.conns)
	if ended {
		return // it was made by a program that has ended, too
	}
	original, ok := p.Original(conn.Local(), conn.Remote())
	if !ok {
		c.stray(conn, w, mesh.Outbound)
		return
	}
	c.handler.ServeOutbound(conn, w, original.Addr, original.Process)
}

func (c *Carrier) inbound(p *pod, conn *rawio.Conn) {
	w, ended := c.begin(p, conn, p.callers)
	if w == nil {
		return
	}
	defer c.end(p, conn, p.callers)
	if conn.Local().Addr().IsLoopback() {
		c.stray(conn, w, mesh.Inbound)
		return
	}
	if ended { // the client is told that, as far as the pod's network still carries it
		timer := time.AfterFunc(c.farewell, func() { cut([]*rawio.Conn{conn}) })
		defer timer.Stop()
	}
	c.handler.ServeInbound(conn, w)
}

// stray resets a connection that a program made to the agent's own port in a pod.
func (c *Carrier) stray(conn *rawio.Conn, w *mesh.Workload, d mesh.Direction) {
	_ = conn.Reset()
	c.Tap.Emit(&tap.Event{
		Kind: tap.ConnClose, Time: time.Now(), Direction: d,
		Source: tap.Peer{Addr: conn.Remote(), Workload: w}, Destination: tap.Peer{Addr: conn.Local()},
		Protocol: "tcp", TLS: tap.TLSNoIdentity, Reset: true, Reason: mesh.ReasonNoDestination,
	})
}
