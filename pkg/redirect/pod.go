package redirect

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"sync/atomic"

	"github.com/cilium/ebpf/link"
	"github.com/underlane/underlane/bpf"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/rawio"
	"github.com/underlane/underlane/pkg/redirect/netns"
	"golang.org/x/sys/unix"
)

// Ports of the agent's listeners in a pod. The hooks rewrite outbound connections to
// OutboundPort. If the pod's application uses a port already, another one is taken.
const (
	OutboundPort = 15001
	InboundPort  = 15006
)

// Pod is an enrolled pod: its namespace, and the listeners in it that receive its
// traffic.
//
// It is made of layers, each of which embeds the one below it and uses none above: sockets,
// entries. Pod itself has the listeners.
type Pod struct {
	UID      string
	Outbound []*rawio.Listener
	Inbound  []*rawio.Listener

	entries
	kinds []listening
	shut  bool // it has no listeners yet: see Shut
}

// entries is what the kernel has of the pod: its entries in the maps, and the program at its
// addresses (lookup.go).
type entries struct {
	sockets
	d       *Datapath
	addrs   []netip.Addr
	lookup  link.Link
	linkPin string
	// redirect is the program at the pod's veth; nil: none (redirects.go)
	redirect link.Link
	config   bpf.UnderlanePod
	refuses  bool         // see Refuse
	apps     atomic.Int32 // connections of DialApp that are open or being made
}

// sockets makes sockets in the pod's network namespace, and looks at those that are there
// (dial.go, connections.go).
type sockets struct {
	Name  string // namespace/name
	ns    *netns.NS
	users atomic.Int64 // users of ns: the enrolment, and each Hold
}

// listening is a listener and its kind in the listeners map.
type listening struct {
	kind     bpf.UnderlaneListenerKind
	listener *rawio.Listener
}

// Hold keeps the pod's namespace open for Dial and DialApp, also after the pod was
// withdrawn, so that its open connections are served to their end. Release must be
// called once for each Hold.
func (p *sockets) Hold() { p.users.Add(1) }

// Release undoes a Hold.
func (p *sockets) Release() {
	if p.users.Add(-1) == 0 {
		p.ns.Close()
	}
}

// Cookie returns the cookie of the pod's namespace, which identifies it in the maps.
func (p *sockets) Cookie() uint64 { return p.ns.Cookie() }

// Enroll enrols a pod. When it returns, new connections from and to the pod go through
// the listeners of the returned Pod. Established connections do not change. If it
// fails, it undoes everything, except that a strict pod is then shut (Shut). Enroll
// takes ownership of ns in any case.
func (d *Datapath) Enroll(w *mesh.Workload, ns *netns.NS) (*Pod, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p, err := d.entry(w, ns)
	if err != nil {
		return nil, fmt.Errorf("enroll %s/%s: %w", w.Namespace, w.Name, err)
	}
	if err := p.enroll(w); err != nil {
		p.unlisten()
		if !w.Closed() || p.close(w) != nil {
			d.remove(p)
		}
		return nil, fmt.Errorf("enroll %s: %w", p.Name, err)
	}
	p.shut = false
	return p, nil
}

// Shut closes a strict pod that cannot be enrolled yet. Only the node's own processes
// can connect to it, until Enroll gives its connections to the agent or Withdraw opens
// it. Connections that the pod opens are not affected. Shut takes ownership of ns.
func (d *Datapath) Shut(w *mesh.Workload, ns *netns.NS) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	p, err := d.entry(w, ns)
	if err == nil {
		if err = p.close(w); err != nil {
			d.remove(p)
		}
	}
	if err != nil {
		return fmt.Errorf("shut %s/%s: %w", w.Namespace, w.Name, err)
	}
	return nil
}

// entry returns the pod to enrol or shut: the one that is shut already, or a new one.
// It takes ownership of ns.
func (d *Datapath) entry(w *mesh.Workload, ns *netns.NS) (*Pod, error) {
	p := d.pods[w.UID]
	switch {
	case p == nil:
	case !p.shut:
		ns.Close()
		return nil, errors.New("already enrolled")
	case p.Cookie() == ns.Cookie():
		ns.Close()
		p.addrs = w.Addrs
		return p, nil
	default: // it has a new sandbox
		d.remove(p)
	}
	p = &Pod{UID: w.UID, shut: true}
	p.Name, p.d, p.ns, p.addrs = w.Namespace+"/"+w.Name, d, ns, w.Addrs
	p.linkPin = d.lookupPin(strconv.FormatUint(ns.Cookie(), 10))
	p.Hold()
	d.pods[w.UID] = p
	return p, nil
}

func (p *Pod) enroll(w *mesh.Workload) error {
	if err := p.listen(); err != nil {
		return err
	}
	if err := p.file(w); err != nil {
		return err
	}
	// The listeners follow after the pods map: the entry of an earlier agent may have
	// another port, at which there is no listener any more.
	for _, l := range p.kinds {
		if err := p.publish(l.kind, l.listener); err != nil {
			return err
		}
	}
	if p.lookup == nil { // otherwise Shut has attached it
		if err := p.attach(); err != nil {
			return err
		}
	}
	// Set last: without sk_lookup the other loopback addresses of the listeners
	// (bpf/via.c) lead to no listener.
	p.config.Steered = 1
	return p.file(w)
}

// close makes a pod known to the programs without making listeners. Listeners of an
// earlier agent may still exist and serve: their ports stay in the map.
func (p *entries) close(w *mesh.Workload) error {
	var before bpf.UnderlanePod
	if p.config.OutboundPort4|p.config.OutboundPort6 == 0 && p.d.objs.Pods.Lookup(p.Cookie(), &before) == nil {
		p.config.OutboundPort4, p.config.OutboundPort6 = before.OutboundPort4, before.OutboundPort6
	}
	if err := p.file(w); err != nil || p.lookup != nil {
		return err
	}
	return p.attach()
}

func (p *entries) file(w *mesh.Workload) error {
	p.configure(w)
	if err := p.d.objs.Pods.Put(p.Cookie(), &p.config); err != nil {
		return fmt.Errorf("pods map: %w (4096 pods a node is the limit)", err)
	}
	return nil
}

// unlisten undoes listen and publish.
func (p *Pod) unlisten() {
	p.Unpublish()
	p.CloseListeners()
	p.Outbound, p.Inbound, p.kinds = nil, nil, nil
}

// listen makes the listeners, except those of an address family that the namespace
// does not have.
func (p *Pod) listen() error {
	for _, l := range []struct {
		kind bpf.UnderlaneListenerKind
		addr netip.Addr
		port uint16
		list *[]*rawio.Listener
	}{
		{bpf.UnderlaneListenerKindLISTENER_OUTBOUND4, v4Loopback, OutboundPort, &p.Outbound},
		{bpf.UnderlaneListenerKindLISTENER_OUTBOUND6, v6Loopback, OutboundPort, &p.Outbound},
		{bpf.UnderlaneListenerKindLISTENER_INBOUND4, v4Loopback, InboundPort, &p.Inbound},
		{bpf.UnderlaneListenerKindLISTENER_INBOUND6, v6Loopback, InboundPort, &p.Inbound},
	} {
		listener, err := p.ns.Listen(l.addr, l.port, Mark)
		if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL) {
			continue // no IPv6 in this namespace
		}
		if err != nil {
			return err
		}
		*l.list = append(*l.list, listener)
		switch l.kind {
		case bpf.UnderlaneListenerKindLISTENER_OUTBOUND4:
			p.config.OutboundPort4 = listener.Addr().Port()
		case bpf.UnderlaneListenerKindLISTENER_OUTBOUND6:
			p.config.OutboundPort6 = listener.Addr().Port()
		}
		p.kinds = append(p.kinds, listening{l.kind, listener})
	}
	return nil
}

// publish puts a listener into the map in which the programs look for it.
func (p *entries) publish(kind bpf.UnderlaneListenerKind, listener *rawio.Listener) error {
	key := p.listenerKey(kind)
	err := listener.Control(func(fd int) error { return p.d.objs.Listeners.Put(&key, uint64(fd)) })
	if err != nil {
		return fmt.Errorf("listeners map: %w", err)
	}
	return nil
}

func (p *entries) listenerKey(kind bpf.UnderlaneListenerKind) bpf.UnderlaneListenerKey {
	return bpf.UnderlaneListenerKey{NetnsCookie: p.Cookie(), Kind: uint32(kind)}
}

// configure sets the entry of the pods map from the workload's settings and addresses.
func (p *entries) configure(w *mesh.Workload) {
	copyName(&p.config.Name, p.Name)
	p.config.Addr4, p.config.Addr6 = bpf.UnderlaneAddress{}, bpf.UnderlaneAddress{}
	for _, a := range p.addrs {
		if a.Unmap().Is4() {
			p.config.Addr4 = mapAddress(a)
		} else {
			p.config.Addr6 = mapAddress(a)
		}
	}
	p.config.FailClosed = flag(w.Settings.FailClosed)
	// Only the agent can check an identity, and judge by the pod's policies.
	p.config.InboundFailClosed = flag(w.Settings.FailClosed || w.Closed() || p.refuses)
	p.d.copyRanges(&p.config.SkipOutbound, w.Settings.SkipOutboundPorts, p.Name)
	p.d.copyRanges(&p.config.SkipInbound, w.Settings.SkipInboundPorts, p.Name)
}

// Update puts changed settings and addresses of the workload into force. If the
// workload has no addresses, because they are not known yet, the pod keeps the ones
// that it was enrolled with.
func (d *Datapath) Update(w *mesh.Workload) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.pods[w.UID]
	if p == nil {
		return fmt.Errorf("update %s/%s: not enrolled", w.Namespace, w.Name)
	}
	before := p.config
	if len(w.Addrs) > 0 {
		p.addrs = w.Addrs
	}
	p.configure(w)
	if p.config == before {
		return nil
	}
	if err := d.objs.Pods.Put(p.Cookie(), &p.config); err != nil {
		return fmt.Errorf("update %s: pods map: %w", p.Name, err)
	}
	return nil
}

// Withdraw takes a pod out of the mesh: new connections are as if it had never been
// enrolled. Accepted connections continue. The listeners stay open for connections
// that were on their way to them: the caller must call CloseListeners later.
func (d *Datapath) Withdraw(uid string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if p := d.pods[uid]; p != nil {
		d.remove(p)
	}
}

func (d *Datapath) remove(p *Pod) {
	delete(d.pods, p.UID)
	p.unhook()
	p.Release()
}

// Unpublish removes the pod's listeners from the map in which the programs look for
// them. New connections then fail open or closed, by the pod's fail mode. Call
// CloseListeners after the connections that were on their way have been accepted.
func (p *entries) Unpublish() { p.d.unpublish(p.Cookie()) }

// CloseListeners closes the pod's listeners. It may be called again.
func (p *Pod) CloseListeners() {
	for _, l := range append(p.Outbound, p.Inbound...) {
		l.Close()
	}
}

// unhook undoes as much of enroll as was done, except for the listeners. These are
// closed last, so that the programs steer no connection to a closed listener.
func (p *entries) unhook() {
	p.d.forget(p.Cookie())
	p.unredirect()
	if p.lookup != nil {
		os.Remove(p.linkPin)
	}
	p.closeLinks()
}

// closeLinks closes the handles of the pod's links, which are pinned.
func (p *entries) closeLinks() {
	if p.lookup != nil {
		p.lookup.Close()
		p.lookup = nil
	}
	if p.redirect != nil {
		p.redirect.Close()
		p.redirect = nil
	}
}
