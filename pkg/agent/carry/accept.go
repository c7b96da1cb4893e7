package carry

import (
	"net/netip"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/rawio"
	"github.com/underlane/underlane/pkg/tap"
)

// Handler serves connections of pods. Each method returns when the connection is
// over.
type Handler interface {
	// ServeOutbound serves a connection that local opened to dst; process is the
	// name of the program that did.
	ServeOutbound(c *rawio.Conn, local *mesh.Workload, dst netip.AddrPort, process string)
	// ServeInbound serves a connection that was opened to local.
	ServeInbound(c *rawio.Conn, local *mesh.Workload)
}

func (c *Carrier) outbound(p *pod, conn *rawio.Conn) {
	w := c.begin(p, conn)
	if w == nil {
		return
	}
	defer c.end(p, conn)
	original, ok := p.Original(conn.Local(), conn.Remote())
	if !ok {
		c.stray(conn, w, mesh.Outbound)
		return
	}
	c.handler.ServeOutbound(conn, w, original.Addr, original.Process)
}

func (c *Carrier) inbound(p *pod, conn *rawio.Conn) {
	w := c.begin(p, conn)
	if w == nil {
		return
	}
	defer c.end(p, conn)
	if conn.Local().Addr().IsLoopback() {
		c.stray(conn, w, mesh.Inbound)
		return
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
