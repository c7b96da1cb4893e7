package carry

import (
	"context"
	"errors"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/underlane/underlane/pkg/rawio"
	"github.com/underlane/underlane/pkg/state"
)

// The other ends of a pod's connections need not hear that it has ended: its network
// is removed, and what its sockets send gets lost. They would wait until they give the
// endpoint up, for seconds or, on the same node, for minutes. So the Carrier ends all
// connections of a pod that has ended: when the runtime stops its sandbox, and when it
// is not in the state any more. A pod that is being deleted and still runs is in the
// state: its connections are left alone.

// State is what the node knows of the mesh.
type State interface {
	View() *state.View
	// Watch returns a channel that receives when there is another View.
	Watch() (changes <-chan struct{}, cancel func())
	// Subscribe asks whose addr is, without waiting: a later View knows.
	Subscribe(addr netip.Addr)
}

// refuseFor is how long connections to the address of a pod that has ended are
// refused, while no other pod has it.
const refuseFor = 10 * time.Second

// errEnded is a failure to reach a pod that has ended. It is no error of the network:
// other pods of the same node can be reached.
var errEnded = errors.New("the pod has ended")

// endpoint is a pod that pods of this node dialled by its address. Carrier.mu guards
// it.
type endpoint struct {
	uid   string
	conns map[*rawio.Conn]struct{}
	ended time.Time       // zero: it has not
	over  context.Context // done when it has ended
	end   context.CancelFunc

	dials atomic.Int32 // under way
}

func newEndpoint(uid string) *endpoint {
	ep := &endpoint{uid: uid, conns: make(map[*rawio.Conn]struct{})}
	ep.over, ep.end = context.WithCancel(context.Background())
	return ep
}

// finish notes that the endpoint has ended: dials that are under way fail. It returns
// the connections, which are to be cut. mu is held.
func (ep *endpoint) finish() []*rawio.Conn {
	ep.ended = time.Now()
	ep.end()
	return appendKeys(nil, ep.conns)
}

// dial connects by how, for as long as the endpoint has not ended. nil is an endpoint
// that is not known.
func (ep *endpoint) dial(ctx context.Context, how func(context.Context) (*rawio.Conn, error)) (*rawio.Conn, error) {
	if ep == nil {
		return how(ctx)
	}
	ep.dials.Add(1)
	defer ep.dials.Add(-1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ep.over, cancel)()
	conn, err := how(ctx)
	if err != nil && ep.over.Err() != nil {
		return nil, errEnded
	}
	return conn, err
}

// endpoint returns the pod at addr, nil where the state knows none. The error is
// errEnded.
func (c *Carrier) endpoint(addr netip.Addr) (*endpoint, error) {
	addr = addr.Unmap()
	w, known := c.State.View().Workload(addr)
	c.mu.Lock()
	defer c.mu.Unlock()
	ep := c.endpoints[addr]
	switch {
	case !known && ep.gone():
		return nil, errEnded
	case !known:
		return nil, nil
	case ep == nil || ep.uid != w.UID || !ep.ended.IsZero():
		if ep != nil { // the connections to the pod that had its address end
			go cut(ep.finish()) // which takes mu
		}
		ep = newEndpoint(w.UID)
		c.endpoints[addr] = ep
	}
	return ep, nil
}

// gone reports whether the endpoint has ended a moment ago. Carrier.mu is held.
func (ep *endpoint) gone() bool {
	return ep != nil && !ep.ended.IsZero() && time.Since(ep.ended) < refuseFor
}

// Gone reports whether the pod that had addr has ended within the last seconds, and no
// other pod has it: then that is why a connection to it ended or was not made.
func (n *Network) Gone(addr netip.Addr) bool {
	c := n.carrier
	addr = addr.Unmap()
	w, known := c.State.View().Workload(addr)
	c.mu.RLock()
	defer c.mu.RUnlock()
	if known {
		p := c.byUID[w.UID]
		return p != nil && p.ended
	}
	return c.endpoints[addr].gone()
}

// track notes that conn was dialled from or into p, and to ep unless that is nil.
// If one of them has ended meanwhile, conn is closed and the error is errEnded.
func (c *Carrier) track(conn *rawio.Conn, p *pod, ep *endpoint) (*rawio.Conn, error) {
	c.mu.Lock()
	if p.ended || ep != nil && !ep.ended.IsZero() {
		c.mu.Unlock()
		conn.Close()
		return nil, errEnded
	}
	conn.OnClose(func() { c.untrack(conn, p, ep) })
	p.conns[conn] = struct{}{}
	if ep != nil {
		ep.conns[conn] = struct{}{}
	}
	c.mu.Unlock()
	return conn, nil
}

func (c *Carrier) untrack(conn *rawio.Conn, p *pod, ep *endpoint) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(p.conns, conn)
	if ep != nil {
		delete(ep.conns, conn)
	}
}

// cut resets connections.
func cut(conns []*rawio.Conn) {
	for _, conn := range conns {
		_ = conn.Reset()
		conn.Close()
	}
}

// SandboxEnded ends all connections of a pod of this node whose containers have
// ended: the one that has the network namespace with the cookie. Another sandbox of
// the same pod is left alone.
func (c *Carrier) SandboxEnded(uid string, cookie uint64) {
	cut(c.endPods(func(p *pod) bool { return p.UID == uid && p.Cookie() == cookie }))
}

// endPods marks some pods of this node as ended, and returns their connections, which
// are to be cut.
func (c *Carrier) endPods(which func(*pod) bool) (conns []*rawio.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.pods {
		if !p.ended && which(p) {
			p.ended = true
			conns = appendKeys(conns, p.conns)
		}
	}
	return conns
}

func appendKeys(list []*rawio.Conn, set map[*rawio.Conn]struct{}) []*rawio.Conn {
	for conn := range set {
		list = append(list, conn)
	}
	return list
}

// Run ends the connections of pods that are not in the state any more, until ctx is
// done.
func (c *Carrier) Run(ctx context.Context) error {
	changes, cancel := c.State.Watch()
	defer cancel()
	for {
		if view := c.State.View(); view.Synced() {
			c.follow(view)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changes:
		}
	}
}

// vacate notes that a pod of this node has left its addresses, and returns the
// connections to them. There may be none: what is on the same node is reached in its
// namespace. mu is held.
func (c *Carrier) vacate(p *pod) (conns []*rawio.Conn) {
	for _, addr := range p.workload.Addrs {
		switch ep := c.endpoints[addr]; {
		case ep == nil:
			ep = newEndpoint(p.UID)
			ep.finish()
			c.endpoints[addr] = ep
		case ep.uid == p.UID && ep.ended.IsZero():
			conns = append(conns, ep.finish()...)
		}
	}
	return conns
}

// follow ends the connections of pods that view does not have any more, and those to
// addresses that are another pod's now, or no pod's.
func (c *Carrier) follow(view *state.View) {
	var toThem []*rawio.Conn
	ended := c.endPods(func(p *pod) bool {
		was := p.known
		_, p.known = view.WorkloadByUID(p.UID)
		if was && !p.known {
			toThem = append(toThem, c.vacate(p)...)
		}
		return was && !p.known
	})
	ended = append(ended, toThem...)
	var unsaid []netip.Addr
	c.mu.Lock()
	for addr, ep := range c.endpoints {
		w, there := view.Workload(addr)
		switch {
		case there && w.UID == ep.uid:
		case !ep.ended.IsZero():
			if time.Since(ep.ended) > refuseFor {
				delete(c.endpoints, addr)
			}
		case there || view.Answered(addr):
			ended = append(ended, ep.finish()...)
		case len(ep.conns) == 0 && ep.dials.Load() == 0:
			delete(c.endpoints, addr)
		default:
			// It was an endpoint of a service, or it was not used for long: the
			// controller has to say whether it is there.
			unsaid = append(unsaid, addr)
		}
	}
	c.mu.Unlock()
	cut(ended)
	for _, addr := range unsaid {
		c.State.Subscribe(addr)
	}
}
