package redirect

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/underlane/underlane/bpf"
	"github.com/underlane/underlane/pkg/redirect/netns"
)

// Addrs returns the pod's addresses.
func (p *entries) Addrs() []netip.Addr {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	return p.addrs
}

// Owns reports whether the pod's namespace has all of addrs. It has not if the pod got
// a new sandbox.
func (p *sockets) Owns(addrs []netip.Addr) (bool, error) {
	have, err := p.ns.Addresses()
	if err != nil {
		return false, fmt.Errorf("addresses of %s: %w", p.Name, err)
	}
	return netns.Owns(have, addrs), nil
}

// Repair checks that the programs of the node and of its pods are attached and pinned
// and that the pods' map entries are there, and restores those that are not: an
// administrator or another program may have detached or deleted them. It returns what
// it repaired.
func (d *Datapath) Repair() (repaired []string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var errs []error
	check := func(name string, lost, repair func() error) {
		why := lost()
		if why == nil {
			return
		}
		if err := repair(); err != nil {
			errs = append(errs, fmt.Errorf("repair %s (%w): %w", name, why, err))
			return
		}
		repaired = append(repaired, fmt.Sprintf("%s: %v", name, why))
	}
	for _, h := range d.hooks() {
		check("program "+h.name,
			func() error { return attached(d.links[h.name], d.linkPin(h.name)) },
			func() error { return d.reattach(h) })
	}
	for _, p := range d.pods {
		check("sk_lookup of "+p.Name,
			func() error { return attached(p.lookup, p.linkPin) },
			p.reattach)
		check("map pods of "+p.Name, p.configured, func() error { return d.objs.Pods.Put(p.Cookie(), &p.config) })
		for _, l := range p.kinds {
			check("map listeners of "+p.Name,
				func() error { return p.published(l.kind) },
				func() error { return p.publish(l.kind, l.listener) })
		}
	}
	return repaired, errors.Join(errs...)
}

var errUnpinned = errors.New("was unpinned")

// attached returns why a link no longer works, or nil if it does.
func attached(l link.Link, pin string) error {
	if l == nil {
		return errors.New("was not attached")
	}
	info, err := l.Info()
	if err != nil {
		return err
	}
	if c := info.Cgroup(); c != nil && c.CgroupId == 0 {
		return errors.New("was detached")
	}
	if n := info.NetNs(); n != nil && n.NetnsInode == 0 {
		return errors.New("was detached")
	}
	if _, err := os.Stat(pin); err != nil {
		return errUnpinned
	}
	return nil
}

// repin pins a link that works at its old path again. A second link beside it would
// run the program twice for a moment.
func repin(l link.Link, pin string) error {
	if err := l.Pin(pin + "-again"); err != nil { // Pin does nothing if the path is the same as before
		return err
	}
	return l.Pin(pin)
}

func (d *programs) reattach(h hook) error {
	old, pin := d.links[h.name], d.linkPin(h.name)
	if attached(old, pin) == errUnpinned {
		return repin(old, pin)
	}
	if err := d.attach(h); err != nil {
		return err
	}
	if old != nil {
		old.Close()
	}
	return nil
}

func (p *entries) reattach() error {
	old := p.lookup
	if attached(old, p.linkPin) == errUnpinned {
		return repin(old, p.linkPin)
	}
	if err := p.attach(); err != nil {
		p.lookup = old
		return err
	}
	if old != nil {
		old.Close()
	}
	return nil
}

var errEntry = errors.New("the entry was deleted or changed")

func (p *entries) configured() error {
	var have bpf.UnderlanePod
	if p.d.objs.Pods.Lookup(p.Cookie(), &have) != nil || have != p.config {
		return errEntry
	}
	return nil
}

func (p *entries) published(kind bpf.UnderlaneListenerKind) error {
	key, socket := p.listenerKey(kind), uint64(0)
	if p.d.objs.Listeners.Lookup(&key, &socket) != nil {
		return errEntry
	}
	return nil
}

// forget deletes a pod from all maps.
func (d *kernelMaps) forget(cookie uint64) {
	d.gone(d.objs.Pods.Delete(cookie), d.objs.Pods)
	d.gone(d.objs.DnsRates.Delete(cookie), d.objs.DnsRates)
	d.unpublish(cookie)
}

// unpublish deletes a pod's listeners from their map.
func (d *kernelMaps) unpublish(cookie uint64) {
	for kind := bpf.UnderlaneListenerKindLISTENER_OUTBOUND4; kind <= bpf.UnderlaneListenerKindLISTENER_INBOUND6; kind++ {
		key := bpf.UnderlaneListenerKey{NetnsCookie: cookie, Kind: uint32(kind)}
		d.gone(d.objs.Listeners.Delete(&key), d.objs.Listeners)
	}
}

// gone logs the error of a deletion, unless the entry did not exist.
func (d *kernelMaps) gone(err error, m *ebpf.Map) {
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		d.log.Error("forget pod", "map", m.String(), "err", err)
	}
}

// RemoveStale removes the pods that an earlier agent enrolled and this one has not:
// pods that ended or lost their label while no agent ran. Call it when the first
// complete state of the node has been applied.
func (d *Datapath) RemoveStale() (removed int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	current := make(map[uint64]bool)
	for _, p := range d.pods {
		current[p.Cookie()] = true
	}
	var (
		cookie uint64
		config bpf.UnderlanePod
		stale  = make(map[uint64]bpf.UnderlanePod)
	)
	pods := d.objs.Pods.Iterate()
	for pods.Next(&cookie, &config) {
		if !current[cookie] {
			stale[cookie] = config
		}
	}
	for cookie, config := range stale {
		d.log.Info("forgetting a pod of an earlier agent", "pod", cString(config.Name[:]))
		d.forget(cookie)
	}
	// Also remove the links of pods that were in the pods map of another version.
	pins, _ := filepath.Glob(d.lookupPin("*"))
	for _, pin := range pins {
		cookie, err := strconv.ParseUint(strings.TrimPrefix(pin, d.lookupPin("")), 10, 64)
		if err == nil && !current[cookie] {
			os.Remove(pin)
		}
	}
	// In earlier versions sk_lookup looked for its pod in this map.
	os.Remove(filepath.Join(d.opts.PinRoot, "pod_addresses"))
	return len(stale), pods.Err()
}
