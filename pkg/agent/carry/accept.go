package carry

import (
	"net/netip"
	"time"

	"github.com/underlane/underlane/pkg/fairshare"
	"github.com/underlane/underlane/pkg/listener"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/rawio"
	"github.com/underlane/underlane/pkg/tap"
)

// Handler serves connections of pods. Each method returns when the connection is
// over.
type Handler interface {
	// ServeOutbound serves a connection that local opened to dst. process is the name of
	// the program that has opened it. What it returns is a listener.Rest.
	ServeOutbound(c *rawio.Conn, local *mesh.Workload, dst netip.AddrPort, process string) (rest func(over func(defect any, stack []byte)))
	// ServeInbound serves a connection that was opened to local, likewise.
	ServeInbound(c *rawio.Conn, local *mesh.Workload) (rest func(over func(defect any, stack []byte)))
	// Turns returns the turns of a goroutine that accepts connections of local, or to it.
	Turns(local *mesh.Workload, d mesh.Direction) *fairshare.Task
}

func (c *Carrier) outbound(p *pod, conn *rawio.Conn) (rest listener.Rest) {
	w, ended := c.begin(p, conn, p.conns)
	if w == nil {
		return nil
	}
	defer func() {
		if rest == nil {
			c.end(p, conn, p.conns)
		}
	}()
	if ended {
		return nil // it was made by a program that has ended, too
	}
	original, ok := p.Original(conn.Local(), conn.Remote())
	if !ok {
		c.stray(conn, w, mesh.Outbound)
		return nil
	}
	rest = c.handler.ServeOutbound(conn, w, original.Addr, original.Process)
	return rest.Then(func() { c.end(p, conn, p.conns) })
}

func (c *Carrier) inbound(p *pod, conn *rawio.Conn) (rest listener.Rest) {
	w, ended := c.begin(p, conn, p.callers)
	if w == nil {
		return nil
	}
	var farewell *time.Timer
	end := func() {
		if farewell != nil {
			farewell.Stop()
		}
		c.end(p, conn, p.callers)
	}
	defer func() {
		if rest == nil {
			end()
		}
	}()
	if conn.Local().Addr().IsLoopback() {
		c.stray(conn, w, mesh.Inbound)
		return nil
	}
	if ended { // the client is told that, as far as the pod's network still carries it
		farewell = time.AfterFunc(c.farewell, func() { cut([]*rawio.Conn{conn}) })
	}
	rest = c.handler.ServeInbound(conn, w)
	return rest.Then(end)
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
