package redirect

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/underlane/underlane/pkg/redirect/netns"
	"github.com/vishvananda/netlink"
	vns "github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// hostVeth returns the index of the host's end of the veth that has the addresses of a pod.
func hostVeth(host, pod *netns.NS, addrs []netip.Addr) (index int, err error) {
	outside, err := netlink.NewHandleAt(vns.NsHandle(host.FD()), unix.NETLINK_ROUTE)
	if err != nil {
		return 0, fmt.Errorf("veth of the pod: netlink: %w", err)
	}
	defer outside.Close()
	inside, err := netlink.NewHandleAt(vns.NsHandle(pod.FD()), unix.NETLINK_ROUTE)
	if err != nil {
		return 0, fmt.Errorf("veth of the pod: netlink in its namespace: %w", err)
	}
	defer inside.Close()
	own, err := linkOf(inside, addrs)
	if err != nil {
		return 0, err
	}
	if own.Type() != "veth" {
		return 0, fmt.Errorf("the pod's interface is of the type %s: only veth can be redirected to", own.Type())
	}
	if xdp := own.Attrs().Xdp; xdp != nil && xdp.Attached {
		return 0, errors.New("an XDP program is attached in the pod, which would not see the packets")
	}
	end, err := outside.LinkByIndex(own.Attrs().ParentIndex)
	if err != nil {
		return 0, fmt.Errorf("the other end of the pod's veth is not in the host's namespace: %w", err)
	}
	// Indexes are those of a namespace: another interface of the host may have this one.
	id, err := outside.GetNetNsIdByFd(pod.FD())
	if err != nil || end.Type() != "veth" || end.Attrs().ParentIndex != own.Attrs().Index || end.Attrs().NetNsID != id {
		return 0, errors.New("the other end of the pod's veth is not in the host's namespace")
	}
	return end.Attrs().Index, untouched(host, outside, end)
}

// linkOf returns the interface that has all of addrs.
func linkOf(h *netlink.Handle, addrs []netip.Addr) (netlink.Link, error) {
	list, err := h.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("veth of the pod: list addresses: %w", err)
	}
	at := map[netip.Addr]int{}
	for _, a := range list {
		if ip, ok := netip.AddrFromSlice(a.IP); ok {
			at[ip.Unmap()] = a.LinkIndex
		}
	}
	index := 0
	for _, a := range addrs {
		i := at[a.Unmap()]
		if i == 0 || index != 0 && i != index {
			return nil, errors.New("the pod's addresses are not those of one of its interfaces")
		}
		index = i
	}
	own, err := h.LinkByIndex(index)
	if err != nil {
		return nil, fmt.Errorf("veth of the pod: %w", err)
	}
	return own, nil
}

// untouched returns why packets must not pass by the host's end of a veth: something else
// there wants to see, change or delay them.
func untouched(host *netns.NS, h *netlink.Handle, end netlink.Link) error {
	qdiscs, err := h.QdiscList(end)
	if err != nil {
		return fmt.Errorf("queues of %s: %w", end.Attrs().Name, err)
	}
	for _, q := range qdiscs {
		if q.Type() != "noqueue" && q.Attrs().LinkIndex == end.Attrs().Index {
			return fmt.Errorf("%s has a qdisc %s, which would not see the packets", end.Attrs().Name, q.Type())
		}
	}
	if m := end.Attrs().MasterIndex; m != 0 {
		master, err := h.LinkByIndex(m)
		if err != nil {
			return fmt.Errorf("master of %s: %w", end.Attrs().Name, err)
		}
		if master.Type() != "bridge" {
			return fmt.Errorf("%s is a port of %s, of the type %s, which would not see the packets", end.Attrs().Name, master.Attrs().Name, master.Type())
		}
	}
	for _, at := range []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress} {
		names, err := programsAt(host, end.Attrs().Index, at)
		if err != nil {
			return fmt.Errorf("programs of %s: %w", end.Attrs().Name, err)
		}
		for _, name := range names {
			if name != redirectProgram {
				return fmt.Errorf("the program %s is attached to %s, and would not see the packets", name, end.Attrs().Name)
			}
		}
	}
	return nil
}

// programsAt returns the names of the programs that are attached to an interface.
func programsAt(host *netns.NS, index int, at ebpf.AttachType) (names []string, err error) {
	err = host.Do(func() error {
		result, err := link.QueryPrograms(link.QueryOptions{Target: index, Attach: at})
		if err != nil {
			return err
		}
		for _, p := range result.Programs {
			prog, err := ebpf.NewProgramFromID(p.ID)
			if err != nil {
				names = append(names, "?") // it may have ended meanwhile
				continue
			}
			info, err := prog.Info()
			prog.Close()
			if err != nil {
				return err
			}
			names = append(names, info.Name)
		}
		return nil
	})
	return names, err
}
