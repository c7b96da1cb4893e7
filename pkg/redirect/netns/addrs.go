package netns

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	vns "github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Addresses lists the namespace's unicast addresses, without loopback and
// link-local ones.
func (ns *NS) Addresses() ([]netip.Addr, error) {
	// Only this family: a kernel may have been built without the others, such as that of IPsec.
	handle, err := netlink.NewHandleAt(vns.NsHandle(ns.FD()), unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("network namespace: netlink: %w", err)
	}
	defer handle.Close()
	list, err := handle.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("network namespace: list addresses: %w", err)
	}
	var addrs []netip.Addr
	for _, a := range list {
		ip, ok := netip.AddrFromSlice(a.IP)
		if !ok || ip.IsLoopback() || ip.IsLinkLocalUnicast() {
			continue
		}
		addrs = append(addrs, ip.Unmap())
	}
	return addrs, nil
}

// Owns reports whether all of want are among have.
func Owns(have, want []netip.Addr) bool {
	return !slices.ContainsFunc(want, func(w netip.Addr) bool { return !slices.Contains(have, w) })
}

// States of TCP sockets (include/net/tcp_states.h of the kernel).
const (
	established = 1
	listens     = 10
)

// Established counts the namespace's established TCP connections, without those that
// have both ends in the namespace.
func (ns *NS) Established() (int, error) {
	n := 0
	err := ns.sockets(func(s *netlink.Socket) {
		if s.State == established && !s.ID.Destination.IsLoopback() && !s.ID.Destination.Equal(s.ID.Source) {
			n++
		}
	})
	return n, err
}

// Listening reports whether a TCP socket of the namespace listens at an address that is
// not a loopback one.
func (ns *NS) Listening() (bool, error) {
	is := false
	err := ns.sockets(func(s *netlink.Socket) { is = is || s.State == listens && !s.ID.Source.IsLoopback() })
	return is, err
}

// sockets calls each for all TCP sockets of the namespace.
func (ns *NS) sockets(each func(*netlink.Socket)) error {
	handle, err := netlink.NewHandleAt(vns.NsHandle(ns.FD()), unix.NETLINK_INET_DIAG)
	if err != nil {
		return fmt.Errorf("network namespace: socket diagnosis: %w", err)
	}
	defer handle.Close()
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		list, err := handle.SocketDiagTCP(family)
		if err != nil {
			return fmt.Errorf("network namespace: list sockets: %w", err)
		}
		for _, s := range list {
			each(s)
		}
	}
	return nil
}
