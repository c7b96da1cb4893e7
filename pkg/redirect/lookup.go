package redirect

import (
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"github.com/underlane/underlane/bpf"
)

// lookups loads the copies of the sk_lookup program, one for each pod. A copy has the
// cookie of its pod's namespace as a constant. All copies share the node's maps.
type lookups struct {
	spec *ebpf.CollectionSpec // of the sk_lookup program only
	maps map[string]*ebpf.Map

	types *btf.Spec // of another kernel, in tests; nil: of this one
}

// newLookups keeps of spec what is loaded again and again, and drops the rest of it.
func newLookups(spec *ebpf.CollectionSpec, objs *bpf.UnderlaneObjects) *lookups {
	name := bpf.UnderlaneProgSteerInbound
	spec.Programs = map[string]*ebpf.ProgramSpec{name: spec.Programs[name]}
	shared := map[string]*ebpf.Map{
		bpf.UnderlaneMapPods: objs.Pods, bpf.UnderlaneMapAgent: objs.Agent, bpf.UnderlaneMapListeners: objs.Listeners,
		bpf.UnderlaneMapHostFlows: objs.HostFlows, bpf.UnderlaneMapInnerFlows: objs.InnerFlows, bpf.UnderlaneMapCounters: objs.Counters,
		bpf.UnderlaneMapOriginalDsts: objs.OriginalDsts, bpf.UnderlaneMapLocalFlows: objs.LocalFlows, bpf.UnderlaneMapPathCounters: objs.PathCounters,
	}
	for m := range spec.Maps {
		if shared[m] == nil && m != rodata {
			delete(spec.Maps, m)
		}
	}
	return &lookups{spec: spec, maps: shared}
}

// rodata is the section of the programs' constants. Each copy has its own map of it.
const rodata = ".rodata"

// load loads the program for a namespace. The caller must close it, and can do so as
// soon as it is attached: the link keeps it loaded.
func (l *lookups) load(cookie uint64) (*ebpf.Program, error) {
	spec := l.spec.Copy()
	if err := spec.Variables[bpf.UnderlaneVarOwnNetnsCookie].Set(cookie); err != nil {
		return nil, fmt.Errorf("load sk_lookup: %w", err)
	}
	var objs struct {
		SteerInbound *ebpf.Program `ebpf:"steer_inbound"`
	}
	if err := spec.LoadAndAssign(&objs, &ebpf.CollectionOptions{
		MapReplacements: l.maps, Programs: ebpf.ProgramOptions{KernelTypes: l.types},
	}); err != nil {
		return nil, fmt.Errorf("load sk_lookup: %w", err)
	}
	return objs.SteerInbound, nil
}

// attach attaches the pod's copy of the program to its namespace. It replaces the
// program that an earlier agent has attached there.
func (p *entries) attach() error {
	prog, err := p.d.lookups.load(p.Cookie())
	if err != nil {
		return err
	}
	defer prog.Close()
	p.lookup, err = pinnedLink(p.linkPin, prog, func() (link.Link, error) {
		return link.AttachNetNs(p.ns.FD(), prog)
	})
	if err != nil {
		return fmt.Errorf("attach sk_lookup: %w", err)
	}
	return nil
}
