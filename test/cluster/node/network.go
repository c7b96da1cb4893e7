package node

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/test/cluster/layout"
	"github.com/underlane/underlane/test/lab/host"
)

// bridge is the bridge between the nodes, in the control plane's network namespace.
const bridge = "br0"

// Fabric makes the network that connects the nodes: the control plane's network
// namespace, with a bridge that has the API server's address.
func Fabric(c layout.Cluster) error {
	path := c.ControlPlaneNetns()
	if err := host.NewNetns(path); err != nil {
		return err
	}
	if err := forward(path, c.Spec); err != nil {
		return err
	}
	return inside(path, func(h *netlink.Handle) error {
		if err := up(h, "lo"); err != nil {
			return err
		}
		if err := h.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridge}}); err != nil {
			return fmt.Errorf("add bridge: %w", err)
		}
		return addresses(h, bridge, c.Gateways())
	})
}

// connect makes the node's network namespace, a veth pair to the bridge, and the
// routes of all nodes to the pods of all others.
func connect(c layout.Cluster, n layout.Node) error {
	path := c.Netns(n.Name())
	if err := host.NewNetns(path); err != nil {
		return err
	}
	if err := forward(path, c.Spec); err != nil {
		return err
	}
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return err
	}
	defer ns.Close()
	err = inside(c.ControlPlaneNetns(), func(h *netlink.Handle) error {
		br, err := h.LinkByName(bridge)
		if err != nil {
			return err
		}
		cable := &netlink.Veth{
			LinkAttrs:     netlink.LinkAttrs{Name: n.Name(), MasterIndex: br.Attrs().Index},
			PeerName:      "eth0",
			PeerNamespace: netlink.NsFd(ns),
		}
		if err := h.LinkAdd(cable); err != nil {
			return fmt.Errorf("add veth: %w", err)
		}
		return up(h, n.Name())
	})
	if err != nil {
		return err
	}
	err = inside(path, func(h *netlink.Handle) error {
		if err := errors.Join(up(h, "lo"), addresses(h, "eth0", c.NodeIPs(n))); err != nil {
			return err
		}
		for _, gateway := range c.Gateways() {
			if err := route(h, everywhere(gateway), gateway); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return routes(c)
}

// routes gives the control plane and all existing nodes a route to the pods of every
// other node.
func routes(c layout.Cluster) error {
	to := func(path, but string) error {
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			return nil // a missing node gets its routes when it is made
		}
		return inside(path, func(h *netlink.Handle) error {
			for _, n := range c.AllNodes() {
				for i, cidr := range c.PodCIDRs(n) {
					if n.Name() == but {
						continue
					}
					if err := route(h, cidr, c.NodeIPs(n)[i]); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
	err := to(c.ControlPlaneNetns(), "")
	for _, n := range c.AllNodes() {
		err = errors.Join(err, to(c.Netns(n.Name()), n.Name()))
	}
	return err
}

// disconnect removes the veth pair at once. The kernel destroys a namespace without a
// name only at some later time.
func disconnect(c layout.Cluster, n layout.Node) error {
	if _, err := os.Stat(c.ControlPlaneNetns()); err == nil {
		err := inside(c.ControlPlaneNetns(), func(h *netlink.Handle) error {
			link, err := h.LinkByName(n.Name())
			if err != nil {
				return nil // there is no such veth pair
			}
			return h.LinkDel(link)
		})
		if err != nil {
			return err
		}
	}
	return host.DropNetns(c.Netns(n.Name()))
}

// inside runs f with a netlink socket in the network namespace at path.
func inside(path string, f func(*netlink.Handle) error) error {
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return fmt.Errorf("open network namespace %s: %w", path, err)
	}
	defer ns.Close()
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("netlink in %s: %w", path, err)
	}
	defer h.Close()
	return f(h)
}

func up(h *netlink.Handle, name string) error {
	link, err := h.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	if err := h.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s up: %w", name, err)
	}
	return nil
}

// addresses gives the link its addresses and sets it up. It disables IPv6 duplicate
// address detection, because the addresses are unique.
func addresses(h *netlink.Handle, name string, ips []netip.Addr) error {
	link, err := h.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	for _, ip := range ips {
		ones := 24
		if ip.Is6() {
			ones = 64
		}
		addr := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(ip, ones)), Flags: unix.IFA_F_NODAD}
		if err := h.AddrAdd(link, addr); err != nil {
			return fmt.Errorf("add %s to %s: %w", ip, name, err)
		}
	}
	return up(h, name)
}

func route(h *netlink.Handle, to netip.Prefix, gateway netip.Addr) error {
	if err := h.RouteReplace(&netlink.Route{Dst: ipNet(to), Gw: gateway.AsSlice()}); err != nil {
		return fmt.Errorf("route %s via %s: %w", to, gateway, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// forward makes the network namespace a router.
func forward(path string, s layout.Spec) error {
	sysctls := []string{"net/ipv4/ip_forward"}
	if s.DualStack {
		sysctls = append(sysctls, "net/ipv6/conf/all/forwarding")
	}
	return host.InNetns(path, func() error {
		for _, name := range sysctls {
			if err := os.WriteFile("/proc/sys/"+name, []byte("1"), 0); err != nil {
				return fmt.Errorf("sysctl: %w", err)
			}
		}
		return nil
	})
}
