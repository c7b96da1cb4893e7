// Package fabric builds the network of a lab from network namespaces. A bridge in
// a namespace of its own connects a namespace for each node and one for the
// controller. Pods are routed by their node. Nothing is in the machine's own
// namespace.
package fabric

import (
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/test/lab/host"
	"github.com/underlane/underlane/test/lab/layout"
)

// Uplink is the name of a node's link to the fabric, and PodLink that of a pod's
// link to its node, both as seen from inside.
const (
	Uplink  = "eth0"
	PodLink = "eth0"
	bridge  = "br0"
)

// Build makes the fabric for this many nodes and the controller.
func Build(l layout.Layout, nodes int) error {
	names := []string{"fabric", "controller"}
	for n := 1; n <= nodes; n++ {
		names = append(names, layout.NodeName(n))
	}
	for _, name := range names {
		if err := host.NewNetns(l.Netns(name)); err != nil {
			return err
		}
		if err := host.InNetns(l.Netns(name), func() error { return setSysctls(true) }); err != nil {
			return fmt.Errorf("namespace %s: %w", name, err)
		}
	}
	if err := host.InNetns(l.Netns("fabric"), buildBridge); err != nil {
		return fmt.Errorf("fabric: %w", err)
	}
	if err := plug(l, "controller", layout.ControllerAddrs()); err != nil {
		return err
	}
	for n := 1; n <= nodes; n++ {
		if err := plug(l, layout.NodeName(n), layout.NodeAddrs(n)); err != nil {
			return err
		}
	}
	for n := 0; n <= nodes; n++ { // 0 is the controller
		if err := routes(l, n, nodes); err != nil {
			return err
		}
	}
	return nil
}

// setSysctls configures the namespace of the calling thread. Addresses are usable
// at once, replies are accepted on any link, and a router forwards.
func setSysctls(router bool) error {
	forward := "0"
	if router {
		forward = "1"
	}
	for path, value := range map[string]string{
		"ipv4/ip_forward":                 forward,
		"ipv4/conf/all/rp_filter":         "0",
		"ipv4/conf/default/rp_filter":     "0",
		"ipv6/conf/all/disable_ipv6":      "0",
		"ipv6/conf/default/disable_ipv6":  "0",
		"ipv6/conf/all/forwarding":        forward,
		"ipv6/conf/all/accept_dad":        "0",
		"ipv6/conf/default/accept_dad":    "0",
		"ipv6/conf/default/dad_transmits": "0",
	} {
		if err := os.WriteFile("/proc/sys/net/"+path, []byte(value), 0); err != nil {
			return fmt.Errorf("sysctl %s: %w", path, err)
		}
	}
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("netlink: %w", err)
	}
	defer h.Close()
	return up(h, "lo")
}

func buildBridge() error {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("netlink: %w", err)
	}
	defer h.Close()
	snooping := false // without a querier, snooping would drop neighbour discovery
	br := &netlink.Bridge{LinkAttrs: netlink.NewLinkAttrs(), MulticastSnooping: &snooping}
	br.Name = bridge
	if err := h.LinkAdd(br); err != nil {
		return fmt.Errorf("add bridge: %w", err)
	}
	return up(h, bridge)
}

// plug connects a namespace to the bridge and gives it its addresses.
func plug(l layout.Layout, name string, addrs []netip.Addr) error {
	err := host.InNetns(l.Netns("fabric"), func() error {
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer h.Close()
		if err := addVeth(h, name, Uplink, l.Netns(name)); err != nil {
			return err
		}
		port, err := h.LinkByName(name)
		if err != nil {
			return err
		}
		br, err := h.LinkByName(bridge)
		if err != nil {
			return err
		}
		if err := h.LinkSetMaster(port, br); err != nil {
			return err
		}
		return up(h, name)
	})
	if err != nil {
		return fmt.Errorf("plug %s into the fabric: %w", name, err)
	}
	err = inside(l.Netns(name), func(h *netlink.Handle) error {
		for i, prefix := range []netip.Prefix{layout.Fabric4, layout.Fabric6} {
			if err := addAddr(h, Uplink, netip.PrefixFrom(addrs[i], prefix.Bits())); err != nil {
				return err
			}
		}
		return up(h, Uplink)
	})
	if err != nil {
		return fmt.Errorf("address %s: %w", name, err)
	}
	return nil
}

// routes adds the routes of node n (0: the controller) to the pods of all other
// nodes. A node also gets a route to the services: its own programs need a source
// address before the destination is translated.
func routes(l layout.Layout, n, nodes int) error {
	name := "controller"
	if n > 0 {
		name = layout.NodeName(n)
	}
	return inside(l.Netns(name), func(h *netlink.Handle) error {
		for other := 1; other <= nodes; other++ {
			if other == n {
				continue
			}
			for i, cidr := range layout.PodCIDRs(other) {
				if err := addRoute(h, Uplink, cidr, layout.NodeAddrs(other)[i], netip.Addr{}); err != nil {
					return err
				}
			}
		}
		if n == 0 {
			return nil
		}
		for i, cidr := range []netip.Prefix{layout.Services4, layout.Services6} {
			if err := addRoute(h, Uplink, cidr, netip.Addr{}, layout.NodeAddrs(n)[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

// inside runs f with a netlink handle in the namespace at path.
func inside(path string, f func(*netlink.Handle) error) error {
	return host.InNetns(path, func() error {
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return fmt.Errorf("netlink: %w", err)
		}
		defer h.Close()
		return f(h)
	})
}

func up(h *netlink.Handle, name string) error {
	link, err := h.LinkByName(name)
	if err != nil {
		return fmt.Errorf("link %s: %w", name, err)
	}
	if err := h.LinkSetUp(link); err != nil {
		return fmt.Errorf("link %s up: %w", name, err)
	}
	return nil
}

func addAddr(h *netlink.Handle, name string, prefix netip.Prefix) error {
	link, err := h.LinkByName(name)
	if err != nil {
		return fmt.Errorf("link %s: %w", name, err)
	}
	addr := &netlink.Addr{IPNet: ipNet(prefix), Flags: unix.IFA_F_NODAD}
	if err := h.AddrAdd(link, addr); err != nil {
		return fmt.Errorf("add address %s to %s: %w", prefix, name, err)
	}
	return nil
}

// addRoute adds a route to dst through a link, with the gateway via and the source
// address src. Either may be the zero Addr.
func addRoute(h *netlink.Handle, name string, dst netip.Prefix, via, src netip.Addr) error {
	link, err := h.LinkByName(name)
	if err != nil {
		return fmt.Errorf("link %s: %w", name, err)
	}
	route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(dst)}
	if via.IsValid() {
		route.Gw = via.AsSlice()
	} else {
		route.Scope = netlink.SCOPE_LINK
	}
	if src.IsValid() {
		route.Src = src.AsSlice()
	}
	if err := h.RouteAdd(route); err != nil {
		return fmt.Errorf("add route to %s by %s: %w", dst, name, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
