package netns

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	vns "github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// closeWait is the state of a TCP socket whose peer has ended its side, and whose program
// has not.
const closeWait = 8

// Connection is an open TCP connection of a namespace, with what the kernel knows of it.
type Connection struct {
	Local, Remote  netip.AddrPort
	Server         bool // a socket of the namespace listens at the local port
	SRTT, MinRTT   time.Duration
	Retransmits    uint32        // segments that were sent again
	Sent, Received uint64        // bytes; of those that were sent, the acknowledged ones
	Unread         time.Duration // how long the peer's receive window was full
}

// Connections lists the namespace's open TCP connections, without those that have both ends
// in the namespace.
func (ns *NS) Connections() ([]Connection, error) {
	handle, err := netlink.NewHandleAt(vns.NsHandle(ns.FD()), unix.NETLINK_INET_DIAG)
	if err != nil {
		return nil, fmt.Errorf("network namespace: socket diagnosis: %w", err)
	}
	defer handle.Close()
	var open []Connection
	ports := map[uint16]bool{} // on which a socket listens
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		// A list that has changed while it was read is as good as any other.
		list, err := handle.SocketDiagTCPInfo(family)
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return nil, fmt.Errorf("network namespace: list sockets: %w", err)
		}
		for _, s := range list {
			id := &s.InetDiagMsg.ID
			switch {
			case s.InetDiagMsg.State == listens:
				ports[id.SourcePort] = true
			case s.InetDiagMsg.State != established && s.InetDiagMsg.State != closeWait,
				id.Destination.IsLoopback(), id.Destination.Equal(id.Source):
			default:
				c := Connection{Local: addrPort(id.Source, id.SourcePort), Remote: addrPort(id.Destination, id.DestinationPort)}
				if i := s.TCPInfo; i != nil {
					c.SRTT, c.Retransmits = time.Duration(i.Rtt)*time.Microsecond, i.Total_retrans
					if i.Min_rtt != math.MaxUint32 {
						c.MinRTT = time.Duration(i.Min_rtt) * time.Microsecond
					}
					c.Sent, c.Received = i.Bytes_acked, i.Bytes_received
					c.Unread = time.Duration(i.Rwnd_limited) * time.Microsecond
				}
				open = append(open, c)
			}
		}
	}
	for i := range open {
		open[i].Server = ports[open[i].Local.Port()]
	}
	return open, nil
}

func addrPort(ip net.IP, port uint16) netip.AddrPort {
	addr, _ := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(addr.Unmap(), port)
}
