package redirect

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
	"github.com/underlane/underlane/bpf"
)

// Path is a kernel path: connections of a pod to a destination go to an endpoint in another
// pod of this node, and to no proxy. Pods are told by the cookies of their namespaces.
type Path struct {
	PathKey
	Server   uint64 // the pod whose SYNs are left to the application
	Endpoint netip.AddrPort
}

// PathKey identifies a Path.
type PathKey struct {
	Client uint64
	Dst    netip.AddrPort
}

// SetPath makes new connections take p. Dst and Endpoint must be of one address family.
func (d *kernelMaps) SetPath(p Path) error {
	if p.Dst.Addr().Is4() != p.Endpoint.Addr().Is4() {
		return fmt.Errorf("path from %s to %s: the endpoint is of another address family", p.Dst, p.Endpoint)
	}
	value := bpf.UnderlanePath{NetnsCookie: p.Server, Addr: mapAddress(p.Endpoint.Addr()), Port: p.Endpoint.Port()}
	if err := d.objs.Paths.Put(pathKey(p.PathKey), &value); err != nil {
		return fmt.Errorf("paths map: %w", err)
	}
	return nil
}

// DeletePath makes new connections go to the agent again. It does nothing if there is no
// such path.
func (d *kernelMaps) DeletePath(k PathKey) error {
	if err := d.objs.Paths.Delete(pathKey(k)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("paths map: %w", err)
	}
	return nil
}

// Paths returns the paths that the kernel has, those of an earlier agent included.
func (d *kernelMaps) Paths() (list []Path, err error) {
	err = each(d.objs.Paths, func(k bpf.UnderlanePathKey, v bpf.UnderlanePath) {
		list = append(list, Path{PathKey{k.NetnsCookie, fromMap(k.Addr, k.Port)}, v.NetnsCookie, fromMap(v.Addr, v.Port)})
	})
	if err != nil {
		return nil, fmt.Errorf("paths map: %w", err)
	}
	return list, nil
}

func pathKey(k PathKey) *bpf.UnderlanePathKey {
	return &bpf.UnderlanePathKey{NetnsCookie: k.Client, Addr: mapAddress(k.Dst.Addr()), Port: k.Dst.Port()}
}

// pathCounterNames are the metric labels of the counters of the kernel path, in the order of
// enum path_counter.
var pathCounterNames = [bpf.UnderlanePathCounterNUM_PATH_COUNTERS]string{
	bpf.UnderlanePathCounterPATH_TAKEN:         "kernel-path",
	bpf.UnderlanePathCounterPATH_ADMITTED:      "kernel-path-admitted",
	bpf.UnderlanePathCounterPATH_FLOW_FAILED:   "kernel-path-failed",
	bpf.UnderlanePathCounterPATH_REDIRECTED:    "kernel-path-redirected",
	bpf.UnderlanePathCounterPATH_REDIRECT_LEFT: "kernel-path-redirect-left",
}
