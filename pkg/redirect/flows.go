package redirect

import (
	"errors"
	"fmt"
	"net/netip"
	"unsafe"

	"github.com/underlane/underlane/bpf"
)

// Flow is an open connection of the kernel path. Its pods are told by the cookies of their
// namespaces.
type Flow struct {
	Client, Server uint64
	Endpoint       netip.AddrPort
}

// Flows lists the open connections of enrolled pods that have taken a kernel path, those of an
// earlier agent included, whether or not the path is there still. It finds them by the data
// that the hook keeps with their sockets (taken_paths in bpf/path.c), because a map of
// connections could lose some. It returns what it has found together with an error.
func (d *Datapath) Flows() (flows []Flow, err error) {
	for _, p := range d.held() {
		failure := p.ns.Stored(d.objs.TakenPaths.FD(), func(value []byte) {
			if len(value) != int(unsafe.Sizeof(bpf.UnderlanePath{})) {
				return // of another map
			}
			var path bpf.UnderlanePath
			copy(unsafe.Slice((*byte)(unsafe.Pointer(&path)), len(value)), value)
			flows = append(flows, Flow{p.Cookie(), path.NetnsCookie, fromMap(path.Addr, path.Port)})
		})
		p.Release()
		if failure != nil {
			err = errors.Join(err, fmt.Errorf("connections of %s: %w", p.Name, failure))
		}
	}
	return flows, err
}

// held returns the enrolled pods, each of which the caller must Release.
func (d *Datapath) held() (pods []*Pod) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range d.pods {
		p.Hold()
		pods = append(pods, p)
	}
	return pods
}
