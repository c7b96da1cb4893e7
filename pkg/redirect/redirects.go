package redirect

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/underlane/underlane/bpf"
	"github.com/underlane/underlane/pkg/redirect/netns"
)

// Redirects has the packets of kernel paths go from one pod's veth into the other pod, past
// the host (bpf/redirect.c). Its program is attached only at the veths of pods that have
// kernel paths, where nothing else wants to see the packets. It is safe for concurrent use.
type Redirects struct {
	d    *Datapath
	prog *ebpf.Program
	wake chan struct{}

	mu     sync.Mutex
	wanted map[uint64]bool // by cookie; nil: not known yet
	on     map[uint64]bool
	why    map[uint64]string // why a pod that is wanted is not on
}

// redirectProgram is the program's name in the kernel, which says whose it is.
const redirectProgram = "underlane_peer"

// recheckEvery is how often a Redirects looks for others at the veths: the kernel does not
// tell when a program is attached.
const recheckEvery = 10 * time.Second

// NewRedirects loads the program. It has no pods yet.
func NewRedirects(d *Datapath) (*Redirects, error) {
	prog, err := loadRedirect(map[string]*ebpf.Map{
		bpf.UnderlaneMapVeths: d.objs.Veths, bpf.UnderlaneMapRedirects: d.objs.Redirects,
		bpf.UnderlaneMapAgent: d.objs.Agent, bpf.UnderlaneMapPathCounters: d.objs.PathCounters,
	})
	if err != nil {
		return nil, err
	}
	return &Redirects{
		d: d, prog: prog, wake: make(chan struct{}, 1),
		on: make(map[uint64]bool), why: make(map[uint64]string),
	}, nil
}

func loadRedirect(maps map[string]*ebpf.Map) (*ebpf.Program, error) {
	spec, err := bpf.LoadRedirect()
	if err != nil {
		return nil, fmt.Errorf("load redirect: %w", err)
	}
	for name := range spec.Maps {
		if maps[name] == nil {
			delete(spec.Maps, name)
		}
	}
	var objs struct {
		Peer *ebpf.Program `ebpf:"underlane_peer"`
	}
	if err := spec.LoadAndAssign(&objs, &ebpf.CollectionOptions{MapReplacements: maps}); err != nil {
		return nil, fmt.Errorf("load redirect: %w", err)
	}
	return objs.Peer, nil
}

// Want says which pods have kernel paths, by the cookies of their namespaces. Packets of
// others go by way of the host as soon as it returns. Run does the rest.
func (r *Redirects) Want(cookies map[uint64]bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for cookie := range r.on {
		if !cookies[cookie] {
			r.d.dropVeth(cookie)
		}
	}
	r.wanted = cookies
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Run attaches and detaches until ctx is done. It leaves everything as it is then, for the
// next agent: the program redirects nothing while no agent lives.
func (r *Redirects) Run(ctx context.Context) error {
	tick := time.NewTicker(recheckEvery)
	defer tick.Stop()
	for first := true; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-r.wake:
			if first {
				r.forgetOthers()
				first = false
			}
			r.settle(ctx, false)
		case <-tick.C:
			r.settle(ctx, true)
		}
	}
}

// Close detaches nothing (Run).
func (r *Redirects) Close() error { return r.prog.Close() }

// Refused are the pods that have kernel paths and no redirects, with the reasons.
func (r *Redirects) Refused() (list []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for cookie, why := range r.why {
		if p := r.d.byCookie(cookie); p != nil {
			list = append(list, p.Name+": "+why)
		}
	}
	slices.Sort(list)
	return list
}

// Len is the number of pods whose packets are redirected, if those of the other pod are.
func (r *Redirects) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.on)
}

// forgetOthers takes back what an earlier agent has left for pods that are not wanted.
func (r *Redirects) forgetOthers() {
	r.mu.Lock()
	wanted := r.wanted
	r.mu.Unlock()
	r.d.dropVeths(func(cookie uint64) bool { return wanted[cookie] })
}

// settle takes back first, and then attaches. With check it looks again at the pods that it
// has.
func (r *Redirects) settle(ctx context.Context, check bool) {
	r.mu.Lock()
	wanted := r.wanted
	var off, look []uint64
	for cookie := range r.on {
		if !wanted[cookie] {
			off = append(off, cookie)
		}
	}
	for cookie := range r.why {
		if !wanted[cookie] {
			delete(r.why, cookie)
		}
	}
	for cookie := range wanted {
		if check || !r.on[cookie] && r.why[cookie] == "" {
			look = append(look, cookie)
		}
	}
	r.mu.Unlock()
	for _, cookie := range off {
		r.stop(cookie)
		r.set(cookie, nil, false)
	}
	for _, cookie := range look {
		if ctx.Err() != nil {
			return
		}
		err := r.start(cookie)
		r.set(cookie, err, err == nil)
	}
}

func (r *Redirects) set(cookie uint64, err error, on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if on && !r.wanted[cookie] { // Want came meanwhile
		r.d.dropVeth(cookie)
	}
	was := r.why[cookie]
	delete(r.on, cookie)
	delete(r.why, cookie)
	switch {
	case on:
		r.on[cookie] = true
	case err != nil:
		r.why[cookie] = err.Error()
		if was != err.Error() {
			r.d.log.Info("packets of a pod's kernel paths go by way of the host", "cookie", cookie, "cause", err)
		}
	}
}

// DropRedirects takes back what an earlier agent has left, if this one redirects nothing.
func (d *Datapath) DropRedirects() { d.dropVeths(func(uint64) bool { return false }) }

// dropVeths takes the program from all veths but those to keep.
func (d *Datapath) dropVeths(keep func(cookie uint64) bool) {
	d.clearVeths(keep)
	d.mu.Lock()
	defer d.mu.Unlock()
	pins, _ := filepath.Glob(d.redirectPin("*"))
	for _, pin := range pins {
		if cookie, err := strconv.ParseUint(strings.TrimPrefix(pin, d.redirectPin("")), 10, 64); err == nil && !keep(cookie) {
			os.Remove(pin)
		}
	}
}

// clearVeths deletes the entries of the map veths but those to keep.
func (d *kernelMaps) clearVeths(keep func(cookie uint64) bool) {
	var gone []uint64
	err := each(d.objs.Veths, func(cookie uint64, _ bpf.UnderlaneVeth) {
		if !keep(cookie) {
			gone = append(gone, cookie)
		}
	})
	if err != nil {
		d.log.Error("the map of veths cannot be read", "cause", err)
	}
	for _, cookie := range gone {
		d.dropVeth(cookie)
	}
}

// leaveRedirects has connections that an agent before this one redirects go by way of the
// host, unless that agent lives and hands over: meanwhile another policy may be in force at the
// host.
func (d *kernelMaps) leaveRedirects() {
	var st bpf.UnderlaneAgentState
	if d.objs.Agent.Lookup(uint32(0), &st) == nil && monotonicNow()-st.HeartbeatNs < st.HeartbeatTimeoutNs {
		return
	}
	d.clearVeths(func(uint64) bool { return false })
}

// dropVeth has the packets of a pod's connections, in both directions, go by way of the host.
func (d *kernelMaps) dropVeth(cookie uint64) { d.gone(d.objs.Veths.Delete(cookie), d.objs.Veths) }

func (d *programs) redirectPin(cookie string) string { return d.linkPin("redirect_" + cookie) }

func (d *Datapath) byCookie(cookie uint64) *Pod {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range d.pods {
		if p.Cookie() == cookie {
			return p
		}
	}
	return nil
}

var errNotThere = errors.New("the pod is not enrolled")

// start attaches the program to a pod's veth, if it is not, and has the packets of new
// connections redirected. If that must not be (any more), it undoes it.
func (r *Redirects) start(cookie uint64) (err error) {
	d := r.d
	p := d.byCookie(cookie)
	if p == nil {
		return errNotThere
	}
	p.Hold()
	defer p.Release()
	host, err := netns.Open(d.opts.HostNetns)
	if err != nil {
		return err
	}
	defer host.Close()
	index, err := hostVeth(host, p.ns, p.Addrs())
	if err != nil {
		r.stop(cookie)
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.pods[p.UID] != p {
		return errNotThere
	}
	if err := p.redirectAt(host, index, r.prog); err != nil {
		p.unredirect()
		return fmt.Errorf("attach redirect: %w", err)
	}
	if err := d.fileVeth(cookie, index); err != nil {
		p.unredirect()
		return fmt.Errorf("veths map: %w", err)
	}
	return nil
}

func (r *Redirects) stop(cookie uint64) {
	d := r.d
	d.dropVeth(cookie)
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range d.pods {
		if p.Cookie() == cookie {
			p.unredirect()
		}
	}
}

// fileVeth makes the entry of a pod in the map veths, unless it is there.
func (d *kernelMaps) fileVeth(cookie uint64, index int) error {
	value, have := bpf.UnderlaneVeth{Ifindex: uint32(index), SinceNs: monotonicNow()}, bpf.UnderlaneVeth{}
	if d.objs.Veths.Lookup(cookie, &have) == nil && have.Ifindex == value.Ifindex {
		return nil
	}
	return d.objs.Veths.Put(cookie, &value)
}

// redirectAt attaches the program, unless it is attached there.
func (p *entries) redirectAt(host *netns.NS, index int, prog *ebpf.Program) error {
	pin := p.d.redirectPin(strconv.FormatUint(p.Cookie(), 10))
	if p.redirect != nil {
		info, err := p.redirect.Info()
		if err == nil && info.TCX() != nil && info.TCX().Ifindex == uint32(index) {
			if _, err := os.Stat(pin); err == nil {
				return nil
			}
		}
		p.unredirect()
	}
	return host.Do(func() (err error) {
		p.redirect, err = pinnedLink(pin, prog, func() (link.Link, error) {
			return link.AttachTCX(link.TCXOptions{Interface: index, Program: prog, Attach: ebpf.AttachTCXIngress})
		})
		return err
	})
}

// unredirect takes the program from the pod's veth. The packets go by way of the host before.
func (p *entries) unredirect() {
	p.d.dropVeth(p.Cookie())
	if p.redirect != nil {
		os.Remove(p.d.redirectPin(strconv.FormatUint(p.Cookie(), 10)))
		p.redirect.Close()
		p.redirect = nil
	}
}
