package host

import (
	"encoding/binary"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Listeners lists the TCP ports that have a listener in a network namespace. It
// asks the kernel for listening sockets only. /proc/net/tcp would take
// milliseconds, because it walks the machine's whole table of connections.
//
// It keeps the namespace alive until Close.
type Listeners struct {
	socket *nl.SocketHandle
}

// OpenListeners returns the Listeners of the network namespace at path.
func OpenListeners(path string) (*Listeners, error) {
	var s *nl.NetlinkSocket
	err := InNetns(path, func() (err error) {
		s, err = nl.Subscribe(unix.NETLINK_SOCK_DIAG)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("ask for the listening sockets of %s: %w", path, err)
	}
	return &Listeners{socket: &nl.SocketHandle{Socket: s}}, nil
}

// Close releases the namespace.
func (l *Listeners) Close() { l.socket.Close() }

// Ports returns the TCP ports that have a listener, of either address family.
func (l *Listeners) Ports() (map[uint16]bool, error) {
	ports := map[uint16]bool{}
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		req := nl.NewNetlinkRequest(nl.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP)
		req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_SOCK_DIAG: l.socket}
		req.AddRawData(diagListening(family))
		messages, err := req.Execute(unix.NETLINK_SOCK_DIAG, nl.SOCK_DIAG_BY_FAMILY)
		if err != nil {
			return nil, fmt.Errorf("ask for the listening sockets: %w", err)
		}
		for _, m := range messages {
			ports[diagPort(m)] = true
		}
	}
	return ports, nil
}

// diagListening returns a struct inet_diag_req_v2 (linux/inet_diag.h) that asks
// for the listening TCP sockets of a family.
func diagListening(family uint8) []byte {
	const (
		size      = 56
		tcpListen = 10
	)
	req := make([]byte, size)
	req[0], req[1] = family, unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(req[4:], 1<<tcpListen)
	return req
}

// diagPort returns the local port in a struct inet_diag_msg.
func diagPort(msg []byte) uint16 { return binary.BigEndian.Uint16(msg[4:]) }
