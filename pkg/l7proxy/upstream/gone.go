package upstream

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/rawio"
)

// When a pod ends, its connections are reset (by Network, or by the kernel of its node),
// and dials to it fail in one way or another. The system's error does not tell that from a
// server that crashed, a network that is broken or an agent that is away. Network knows
// which pods have ended, so it is asked after each failure.

// gone is the reason of a failure where the pod at either end has ended: ReasonPodGone of
// the endpoint, ReasonClientReset of the client's pod, ReasonNone of neither.
func (p *transport) gone(client, endpoint netip.Addr) mesh.Reason {
	switch {
	case p.Network.Gone(endpoint):
		return mesh.ReasonPodGone
	case client.IsValid() && p.Network.Gone(client):
		return mesh.ReasonClientReset
	}
	return mesh.ReasonNone
}

// dialError gives the failure of a connection to an endpoint its reason, if it has none:
// that a pod has ended, else what the system's error means. Where a pod has ended, err is
// kept as text only, because what it wraps would say that the endpoint's agent or node is
// away.
func (p *transport) dialError(ep *Endpoint, err error) error {
	if gone := p.gone(sourceOf(ep.Client), ep.Peer.Addr.Addr()); gone != mesh.ReasonNone && !LocalFault(err) {
		return mesh.Fail(gone, fmt.Errorf("%v", err))
	}
	if _, said := errors.AsType[*mesh.ReasonError](err); said {
		return err
	}
	return mesh.Fail(connectReason(err), err)
}

// terminating reports whether the endpoint's pod is being deleted. Its node's kernel refuses
// connections to it once its programs do not listen any more (pkg/agent/carry/closed.go),
// which does not mean that the agent is away.
func (p *transport) terminating(ep *Endpoint) bool {
	if ep.Peer.Workload == nil {
		return false
	}
	w, known := p.State.View().WorkloadByUID(ep.Peer.Workload.UID)
	return known && w.Terminating
}

// failure is err, of a read or a write on a connection between two addresses, with the
// reason if a pod has ended. An end in order, and what the caller has caused by a
// deadline, stay what they are.
func (p *transport) failure(c *rawio.Conn, err error) error {
	if err == nil || err == io.EOF || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, rawio.ErrNotNow) {
		return err
	}
	if gone := p.gone(c.Local().Addr(), c.Remote().Addr()); gone != mesh.ReasonNone {
		return mesh.Fail(gone, err)
	}
	return err
}

// plainConn is a connection without TLS whose failures say so if a pod has ended, or if it
// was revoked.
type plainConn struct {
	conn.Plain
	pool *transport
	shortcut
}

func (p *transport) plain(ep *Endpoint, raw *rawio.Conn) conn.Conn {
	c := &plainConn{Plain: conn.Plain{Conn: raw}, pool: p}
	if ep.Mode == SameNode && ep.Client != nil {
		p.shortcuts.add(c, ep)
	}
	return c
}

func (c *plainConn) failure(err error) error {
	if err != nil && c.revoked.Load() {
		return mesh.Fail(mesh.ReasonPolicyDenied, err)
	}
	return c.pool.failure(c.Conn, err)
}

func (c *plainConn) Read(b []byte) (int, error) {
	n, err := c.Plain.Read(b)
	if err != nil {
		err = c.failure(err)
	}
	return n, err
}

func (c *plainConn) Write(b []byte) (int, error) {
	n, err := c.Plain.Write(b)
	if err != nil {
		err = c.failure(err)
	}
	return n, err
}

func (c *plainConn) Offer(b []byte) (kept int, err error) {
	if kept, err = c.Plain.Offer(b); err != nil {
		err = c.failure(err)
	}
	return kept, err
}

func (c *plainConn) Flush() error { return c.failure(c.Plain.Flush()) }

func (c *plainConn) Await() error { return c.failure(c.Plain.Await()) }
