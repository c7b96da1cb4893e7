package redirect

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

const linksDir = "links"

// hook is a program that runs for all sockets below the cgroup root.
type hook struct {
	name string
	typ  ebpf.AttachType
	prog *ebpf.Program
}

func (d *programs) hooks() []hook {
	p := &d.objs.UnderlanePrograms
	hooks := []hook{
		{"connect4", ebpf.AttachCGroupInet4Connect, p.Connect4},
		{"connect6", ebpf.AttachCGroupInet6Connect, p.Connect6},
		{"getpeername4", ebpf.AttachCgroupInet4GetPeername, p.Getpeername4},
		{"getpeername6", ebpf.AttachCgroupInet6GetPeername, p.Getpeername6},
		{"getsockname4", ebpf.AttachCgroupInet4GetSockname, p.Getsockname4},
		{"getsockname6", ebpf.AttachCgroupInet6GetSockname, p.Getsockname6},
		{"sock_ops", ebpf.AttachCGroupSockOps, p.SockOps},
	}
	if d.dnsErr == nil {
		hooks = append(hooks, d.dnsHooks()...)
	}
	return hooks
}

// attachCgroup attaches the hooks, or updates the links that an earlier agent has
// pinned.
func (d *programs) attachCgroup() error {
	for _, h := range d.hooks() {
		if err := d.attach(h); err != nil {
			return err
		}
	}
	return nil
}

func (d *programs) attach(h hook) error {
	l, err := pinnedLink(d.linkPin(h.name), h.prog, func() (link.Link, error) {
		return link.AttachCgroup(link.CgroupOptions{Path: d.opts.CgroupRoot, Attach: h.typ, Program: h.prog})
	})
	if err != nil {
		return fmt.Errorf("attach %s to cgroup %s: %w", h.name, d.opts.CgroupRoot, err)
	}
	d.links[h.name] = l
	return nil
}

func (d *programs) linkPin(name string) string { return filepath.Join(d.opts.PinRoot, linksDir, name) }

func (d *programs) lookupPin(cookie string) string { return d.linkPin("sk_lookup_" + cookie) }

// cgroupLinks are the names of the hooks.
var cgroupLinks = []string{"connect4", "connect6", "getpeername4", "getpeername6", "getsockname4", "getsockname6", "sock_ops"}

// pinnedLink takes over the link that is pinned at path. If there is none, it attaches
// and pins one.
func pinnedLink(path string, prog *ebpf.Program, attach func() (link.Link, error)) (link.Link, error) {
	if l, err := link.LoadPinnedLink(path, nil); err == nil {
		if err := l.Update(prog); err == nil {
			return l, nil
		}
		// A link whose cgroup or namespace is gone cannot be updated.
		l.Close()
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("remove dead pin: %w", err)
		}
	}
	l, err := attach()
	if err != nil {
		return nil, err
	}
	if err := l.Pin(path); err != nil {
		l.Close()
		return nil, fmt.Errorf("pin: %w", err)
	}
	return l, nil
}
