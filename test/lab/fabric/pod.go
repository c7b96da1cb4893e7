package fabric

import (
	"fmt"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"

	"github.com/underlane/underlane/test/lab/host"
	"github.com/underlane/underlane/test/lab/layout"
)

// Attach connects a pod's network namespace (at path) to node n, with the
// addresses of index. Like the CNI plugin ptp it uses host routes at the node and
// a default route to the node in the pod.
func Attach(l layout.Layout, n, index int, path string) error {
	if err := host.InNetns(path, func() error { return setSysctls(false) }); err != nil {
		return fmt.Errorf("attach pod: %w", err)
	}
	veth := layout.HostVeth(index)
	err := inside(l.Netns(layout.NodeName(n)), func(h *netlink.Handle) error {
		if err := addVeth(h, veth, PodLink, path); err != nil {
			return err
		}
		for _, gw := range layout.Gateways(n) {
			if err := addAddr(h, veth, netip.PrefixFrom(gw, gw.BitLen())); err != nil {
				return err
			}
		}
		if err := up(h, veth); err != nil {
			return err
		}
		for i, addr := range layout.PodAddrs(n, index) {
			// The source is the node's own address, so that a probe comes from an
			// address in the Node object.
			if err := addRoute(h, veth, netip.PrefixFrom(addr, addr.BitLen()), netip.Addr{}, layout.NodeAddrs(n)[i]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("attach pod to %s: %w", layout.NodeName(n), err)
	}
	err = inside(path, func(h *netlink.Handle) error { return podSide(h, n, index) })
	if err != nil {
		return fmt.Errorf("attach pod, its side: %w", err)
	}
	return nil
}

func podSide(h *netlink.Handle, n, index int) error {
	for _, addr := range layout.PodAddrs(n, index) {
		if err := addAddr(h, PodLink, netip.PrefixFrom(addr, addr.BitLen())); err != nil {
			return err
		}
	}
	if err := up(h, PodLink); err != nil {
		return err
	}
	for _, gw := range layout.Gateways(n) {
		if err := addRoute(h, PodLink, netip.PrefixFrom(gw, gw.BitLen()), netip.Addr{}, netip.Addr{}); err != nil {
			return err
		}
		everywhere := netip.PrefixFrom(gw, 0).Masked()
		if err := addRoute(h, PodLink, everywhere, gw, netip.Addr{}); err != nil {
			return err
		}
	}
	return nil
}

// Detach removes a pod's link from node n. The link may already be gone with the
// pod's namespace.
func Detach(l layout.Layout, n, index int) error {
	return inside(l.Netns(layout.NodeName(n)), func(h *netlink.Handle) error {
		link, err := h.LinkByName(layout.HostVeth(index))
		if err != nil {
			return nil
		}
		if err := h.LinkDel(link); err != nil {
			return fmt.Errorf("remove link of pod: %w", err)
		}
		return nil
	})
}

// addVeth makes a veth pair with one end in the namespace of the handle and the
// other in the namespace at path.
func addVeth(h *netlink.Handle, name, peer, path string) error {
	ns, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open namespace: %w", err)
	}
	defer ns.Close()
	veth := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: peer, PeerNamespace: netlink.NsFd(ns.Fd())}
	veth.Name = name
	if err := h.LinkAdd(veth); err != nil {
		return fmt.Errorf("add link %s: %w", name, err)
	}
	return nil
}
