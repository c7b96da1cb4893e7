package carry

import (
	"context"
	"errors"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/rawio"
	"github.com/underlane/underlane/pkg/state"
)

// Without help the peers of a pod may not learn that it has ended: its network is removed,
// and what its sockets send gets lost. The peers would wait until they give the endpoint up,
// for seconds or, on the same node, for minutes. Therefore the Carrier ends all
// connections of a pod that has ended: when the runtime stops its sandbox, and when it
// is not in the state any more. A pod that is being deleted and still runs is in the
// state: its connections are left alone.

// State is what the node knows of the mesh.
type State interface {
	View() *state.View
	// Watch returns a channel that receives when there is another View.
	Watch() (changes <-chan struct{}, cancel func())
	// Subscribe asks the controller which pod has addr. It does not wait: a later View has the
	// answer.
	Subscribe(addr netip.Addr)
}

// refuseFor is how long connections to the address of a pod that has ended are
// refused, while no other pod has it.
const refuseFor = 10 * time.Second

// farewellTime is how long the connections of a pod's clients outlive the pod. Meanwhile
// the requests on them are answered with the reason. A reset alone would not tell the
// agent of the client's node that the pod has ended. The container runtime waits for this
// time, so it is short.
const farewellTime = 50 * time.Millisecond

var (
	// errEnded is a failure to reach a pod that has ended. It is no error of the
	// network: other pods of the same node can be reached.
	errEnded = mesh.Fail(mesh.ReasonPodGone, errors.New("the pod has ended"))
	// errClientEnded is the failure of a connection whose own pod has ended. It says
	// nothing about the endpoint.
	errClientEnded = mesh.Fail(mesh.ReasonClientReset, errors.New("the client's pod has ended"))
)

// endpoint is a pod that pods of this node dialled by its address. registry.mu guards
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

// dial connects by calling how, whose context is done when the endpoint ends. A nil endpoint
// is one that is not known.
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
func (c *endings) endpoint(addr netip.Addr) (*endpoint, error) {
	addr = addr.Unmap()
	w, known := c.State.View().Workload(addr)
	c.mu.Lock()
	defer c.mu.Unlock()
	ep := c.endpoints[addr]
	switch {
	case c.gone(addr, w, known):
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

// gone reports whether the endpoint ended within the last refuseFor. registry.mu is held.
func (ep *endpoint) gone() bool {
	return ep != nil && !ep.ended.IsZero() && time.Since(ep.ended) < refuseFor
}

// gone reports whether the pod at addr has ended, and no other pod has the address. w is
// the pod that the state has there, if known is set. mu is held.
func (c *endings) gone(addr netip.Addr, w *mesh.Workload, known bool) bool {
	if known { // the runtime may have announced the end before the state has it
		p := c.byUID[w.UID]
		return p != nil && p.ended
	}
	return c.endpoints[addr].gone()
}

// track notes that conn was dialled from or into p, and to ep unless that is nil. If ep
// has ended meanwhile, conn is closed and the error is errEnded; if p has, it is ended.
func (c *endings) track(conn *rawio.Conn, p *pod, ep *endpoint, ended error) (*rawio.Conn, error) {
	c.mu.Lock()
	switch {
	case p.ended:
	case ep != nil && !ep.ended.IsZero():
		ended = errEnded
	default:
		conn.OnClose(func() { c.untrack(conn, p, ep) })
		p.conns[conn] = struct{}{}
		if ep != nil {
			ep.conns[conn] = struct{}{}
		}
		c.mu.Unlock()
		return conn, nil
	}
	c.mu.Unlock()
	conn.Close()
	return nil, ended
}

func (c *endings) untrack(conn *rawio.Conn, p *pod, ep *endpoint) {
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

// last has the connections that pods had open when they ended.
type last struct {
	conns   []*rawio.Conn // from the pods, into them and to them
	callers []*rawio.Conn // accepted from the pods' clients
}

// cut resets the connections, those of clients after the time farewell. It does not wait
// for that: done is closed then. The caller holds no lock.
func (l *last) cut(farewell time.Duration) (done <-chan struct{}) {
	cut(l.conns)
	over := make(chan struct{})
	if len(l.callers) == 0 {
		close(over)
		return over
	}
	time.AfterFunc(farewell, func() {
		cut(l.callers)
		close(over)
	})
	return over
}

// SandboxEnded ends all connections of a pod of this node whose containers have
// ended: the pod that has the network namespace with the cookie. Another sandbox of
// the same pod is left alone. It returns when the connections are cut.
func (c *endings) SandboxEnded(uid string, cookie uint64) {
	var l last
	c.mu.Lock()
	var ended []*pod
	for _, p := range c.pods {
		if p.UID == uid && p.Cookie() == cookie {
			p.end(&l)
			c.vacate(p, &l)
			ended = append(ended, p)
		}
	}
	c.mu.Unlock()
	for _, p := range ended {
		// A pod that stays gets another sandbox. Until then, agents of other nodes would
		// take a refused connection for an agent that is away.
		if _, known := c.State.View().WorkloadByUID(uid); !known || c.terminating(p) {
			c.refuse(p)
		}
	}
	<-l.cut(c.farewell)
	var late last // connections that were on their way to the listeners
	c.mu.Lock()
	for _, p := range ended {
		late.callers = appendKeys(late.callers, p.callers)
	}
	c.mu.Unlock()
	<-late.cut(0)
}

// end marks a pod of this node as ended, and adds its connections to l, which are to be
// cut. registry.mu is held.
func (p *pod) end(l *last) {
	if p.ended {
		return
	}
	p.ended = true
	l.conns, l.callers = appendKeys(l.conns, p.conns), appendKeys(l.callers, p.callers)
}

func appendKeys(list []*rawio.Conn, set map[*rawio.Conn]struct{}) []*rawio.Conn {
	for conn := range set {
		list = append(list, conn)
	}
	return list
}

// Run ends the connections of pods that are not in the state any more, until ctx is
// done.
func (c *endings) Run(ctx context.Context) error {
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

// vacate notes that a pod of this node has left its addresses, and adds the connections
// to them to l. There may be none: a pod of the same node is reached in its namespace.
// mu is held.
func (c *endings) vacate(p *pod, l *last) {
	for _, addr := range p.workload.Addrs {
		ep := c.endpoints[addr]
		if ep == nil || ep.uid != p.UID && !ep.ended.IsZero() {
			ep = newEndpoint(p.UID)
			c.endpoints[addr] = ep
		}
		if ep.uid == p.UID && ep.ended.IsZero() {
			l.conns = append(l.conns, ep.finish()...)
		}
	}
}

// follow ends the connections of pods that view does not have any more, and those to
// addresses that are another pod's now, or no pod's.
func (c *endings) follow(view *state.View) {
	var l last
	var unsaid []netip.Addr
	c.mu.Lock()
	for _, p := range c.pods {
		was := p.known
		if _, p.known = view.WorkloadByUID(p.UID); was && !p.known {
			p.end(&l)
			c.vacate(p, &l)
		}
	}
	for addr, ep := range c.endpoints {
		w, there := view.Workload(addr)
		switch {
		case there && w.UID == ep.uid:
		case !ep.ended.IsZero():
			if time.Since(ep.ended) > refuseFor {
				delete(c.endpoints, addr)
			}
		case there || view.Answered(addr):
			l.conns = append(l.conns, ep.finish()...)
		case len(ep.conns) == 0 && ep.dials.Load() == 0:
			delete(c.endpoints, addr)
		default:
			// It was an endpoint of a service, or it was not used for long: the
			// controller has to say whether it is there.
			unsaid = append(unsaid, addr)
		}
	}
	c.mu.Unlock()
	l.cut(c.farewell)
	for _, addr := range unsaid {
		c.State.Subscribe(addr)
	}
}
