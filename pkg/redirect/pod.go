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

// In-pod ports. The outbound one is what the hooks rewrite connections to; when
// a pod's application has taken it, another port serves.
const (
	OutboundPort = 15001
	InboundPort  = 15006
)

// Pod is an enrolled pod: its namespace, and the listeners in it that its
// traffic is steered to.
type Pod struct {
	UID      string
	Name     string // namespace/name
	Outbound []*rawio.Listener
	Inbound  []*rawio.Listener

	d       *Datapath
	ns      *netns.NS
	addrs   []netip.Addr
	lookup  link.Link
	linkPin string
	config  bpf.UnderlanePod
	kinds   []listening
	shut    bool         // it has no listeners yet
	users   atomic.Int64 // of ns: the pod while enrolled, and each Hold
}

// listening is a listener as the programs know it.
type listening struct {
	kind     bpf.UnderlaneListenerKind
	listener *rawio.Listener
}

// Hold keeps the pod's namespace open for Dial and DialApp, also after the pod
// was withdrawn: connections that it had are served to their end. Release must
// be called once for each Hold.
func (p *Pod) Hold() { p.users.Add(1) }

// Release undoes a Hold.
func (p *Pod) Release() {
	if p.users.Add(-1) == 0 {
		p.ns.Close()
	}
}

// Cookie identifies the pod's namespace in the maps.
func (p *Pod) Cookie() uint64 { return p.ns.Cookie() }

// Enroll takes a pod in: from when it returns, new connections from and to it
// go through the listeners of the returned Pod. Established connections are
// not touched. On failure nothing of it is left, but that a strict pod is shut
// (Shut). Enroll owns ns from now on.
func (d *Datapath) Enroll(w *mesh.Workload, ns *netns.NS) (*Pod, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p, err := d.entry(w, ns)
	if err != nil {
		return nil, fmt.Errorf("enroll %s/%s: %w", w.Namespace, w.Name, err)
	}
	if err := p.enroll(w); err != nil {
		p.unlisten()
		if w.Settings.Policy != mesh.PolicyStrict || p.close(w) != nil {
			d.remove(p)
		}
		return nil, fmt.Errorf("enroll %s: %w", p.Name, err)
	}
	p.shut = false
	return p, nil
}

// Shut closes a strict pod that cannot be enrolled yet: only the node's own processes
// reach it, until Enroll gives its connections to the agent or Withdraw opens it. What the pod opens is left alone. Shut owns ns from now on.
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

// entry is the pod that is to be taken in: that which is shut already, or a new
// one.
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
	p = &Pod{
		UID: w.UID, Name: w.Namespace + "/" + w.Name,
		d: d, ns: ns, addrs: w.Addrs, shut: true,
		linkPin: d.lookupPin(strconv.FormatUint(ns.Cookie(), 10)),
	}
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
	// Not before: what an earlier agent has left in the pods map may say another
	// port, where there is no listener any more.
	for _, l := range p.kinds {
		if err := p.publish(l.kind, l.listener); err != nil {
			return err
		}
	}
	if p.lookup == nil { // else it was shut
		if err := p.attach(); err != nil {
			return err
		}
	}
	// Not before: the listeners' other names (bpf/via.c) lead nowhere without it.
	p.config.Steered = 1
	return p.file(w)
}

// close has the programs know a pod that has no listeners. Those of an agent before
// this one may be there yet, and serve.
func (p *Pod) close(w *mesh.Workload) error {
	var before bpf.UnderlanePod
	if p.config.OutboundPort4|p.config.OutboundPort6 == 0 && p.d.objs.Pods.Lookup(p.Cookie(), &before) == nil {
		p.config.OutboundPort4, p.config.OutboundPort6 = before.OutboundPort4, before.OutboundPort6
	}
	if err := p.file(w); err != nil || p.lookup != nil {
		return err
	}
	return p.attach()
}

func (p *Pod) file(w *mesh.Workload) error {
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

// listen makes the listeners. A family that the namespace has not got is left
// out.
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

// publish puts a listener where the programs find it.
func (p *Pod) publish(kind bpf.UnderlaneListenerKind, listener *rawio.Listener) error {
	key := p.listenerKey(kind)
	err := listener.Control(func(fd int) error { return p.d.objs.Listeners.Put(&key, uint64(fd)) })
	if err != nil {
		return fmt.Errorf("listeners map: %w", err)
	}
	return nil
}

func (p *Pod) listenerKey(kind bpf.UnderlaneListenerKind) bpf.UnderlaneListenerKey {
	return bpf.UnderlaneListenerKey{NetnsCookie: p.Cookie(), Kind: uint32(kind)}
}

// configure fills in what the hooks need of the workload's settings.
func (p *Pod) configure(w *mesh.Workload) {
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
	// strict lets in only clients with an identity, which only the agent can check.
	p.config.InboundFailClosed = flag(w.Settings.FailClosed || w.Settings.Policy == mesh.PolicyStrict)
	p.d.copyRanges(&p.config.SkipOutbound, w.Settings.SkipOutboundPorts, p.Name)
	p.d.copyRanges(&p.config.SkipInbound, w.Settings.SkipInboundPorts, p.Name)
}

// Update puts changed settings and addresses of the workload in force. One that
// has no addresses, for they are not known yet, keeps those it was enrolled with.
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

// Withdraw takes a pod out: new connections are as if it had never been
// enrolled. Accepted connections live on, and the listeners stay open for those
// that were on their way to them: CloseListeners is the caller's to call.
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

// Unpublish takes the pod's listeners from where the programs find them: new
// connections fail open or closed, as the pod says. CloseListeners is to follow,
// when those are accepted that were on their way.
func (p *Pod) Unpublish() { p.d.unpublish(p.Cookie()) }

// CloseListeners ends the pod's listeners; a second time is no error.
func (p *Pod) CloseListeners() {
	for _, l := range append(p.Outbound, p.Inbound...) {
		l.Close()
	}
}

// unhook undoes enroll but for the listeners, as far as it got: they go last,
// so that nothing is steered to a listener that is gone.
func (p *Pod) unhook() {
	p.d.forget(p.Cookie())
	if p.lookup != nil {
		os.Remove(p.linkPin)
	}
	p.closeLookup()
}

func (p *Pod) closeLookup() {
	if p.lookup != nil {
		p.lookup.Close()
		p.lookup = nil
	}
}
