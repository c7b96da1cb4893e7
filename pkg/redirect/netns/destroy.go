package netns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Destroy ends a TCP connection of the namespace, as `ss -K` does: its program gets
// ECONNABORTED, and its peer a reset. It does nothing if there is no such connection. It
// fails with EOPNOTSUPP if the kernel is built without INET_DIAG_DESTROY.
func (ns *NS) Destroy(local, remote netip.AddrPort) error {
	if err := ns.Do(func() error { return destroy(local, remote) }); err != nil {
		return fmt.Errorf("network namespace: destroy the connection from %s to %s: %w", local, remote, err)
	}
	return nil
}

func destroy(local, remote netip.AddrPort) error {
	req := nl.NewNetlinkRequest(nl.SOCK_DESTROY, unix.NLM_F_ACK)
	req.AddRawData(diagRequest(local, remote))
	if _, err := req.Execute(unix.NETLINK_INET_DIAG, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	return nil
}

// CanDestroy returns why the kernel cannot end connections, or nil. It asks for one that
// cannot be there, in the namespace of the process.
func CanDestroy() error {
	discard := netip.MustParseAddrPort("192.0.2.1:9") // RFC 5737: no host has it
	return destroy(discard, discard)
}

// diagRequest encodes the struct inet_diag_req_v2 of a connection (sock_diag(7)).
func diagRequest(local, remote netip.AddrPort) []byte {
	const noCookie = ^uint32(0) // INET_DIAG_NOCOOKIE: whichever socket it is
	req := make([]byte, 56)
	req[0], req[1] = unix.AF_INET6, unix.IPPROTO_TCP
	id := req[8:]
	binary.BigEndian.PutUint16(id, local.Port())
	binary.BigEndian.PutUint16(id[2:], remote.Port())
	if local.Addr().Unmap().Is4() {
		req[0] = unix.AF_INET
	}
	copy(id[4:], local.Addr().Unmap().AsSlice())
	copy(id[20:], remote.Addr().Unmap().AsSlice())
	binary.NativeEndian.PutUint32(id[40:], noCookie)
	binary.NativeEndian.PutUint32(id[44:], noCookie)
	return req
}
