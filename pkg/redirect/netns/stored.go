package netns

import (
	"encoding/binary"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Attributes of socket diagnosis (include/uapi/linux/inet_diag.h and sock_diag.h).
const (
	reqStorages    = 2      // INET_DIAG_REQ_SK_BPF_STORAGES
	reqMapFD       = 1      // SK_DIAG_BPF_STORAGE_REQ_MAP_FD
	socketStorages = 20     // INET_DIAG_SK_BPF_STORAGES
	storageValue   = 3      // SK_DIAG_BPF_STORAGE_MAP_VALUE
	attrType       = 0x3fff // NLA_TYPE_MASK
)

// Length of struct inet_diag_msg.
const diagMessage = 72

// Stored calls each with the value that a map of the type sk_storage has for a TCP socket of
// the namespace, for all that have one and are not listening. The value is valid during the
// call. It needs CAP_BPF.
func (ns *NS) Stored(mapFD int, each func(value []byte)) error {
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		err := ns.Do(func() error {
			req := nl.NewNetlinkRequest(nl.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP)
			body := make([]byte, 56) // struct inet_diag_req_v2
			body[0], body[1] = family, unix.IPPROTO_TCP
			binary.NativeEndian.PutUint32(body[4:], ^uint32(1<<listens))
			req.AddRawData(append(body, storageRequest(mapFD)...))
			return req.ExecuteIter(unix.NETLINK_INET_DIAG, 0, func(message []byte) bool {
				if len(message) >= diagMessage {
					storageValues(message[diagMessage:], each)
				}
				return true
			})
		})
		if err != nil {
			return fmt.Errorf("network namespace: data of sockets: %w", err)
		}
	}
	return nil
}

// storageRequest encodes the attribute that asks for the values of a map.
func storageRequest(mapFD int) []byte {
	outer := nl.NewRtAttr(reqStorages|unix.NLA_F_NESTED, nil)
	outer.AddRtAttr(reqMapFD, nl.Uint32Attr(uint32(mapFD)))
	return outer.Serialize()
}

// storageValues finds the values among the attributes of a socket.
func storageValues(attrs []byte, each func(value []byte)) {
	attributes(attrs, socketStorages, func(storages []byte) {
		attributes(storages, 1, func(storage []byte) { // SK_DIAG_BPF_STORAGE
			attributes(storage, storageValue, each)
		})
	})
}

// attributes calls each for those of a type.
func attributes(b []byte, typ uint16, each func([]byte)) {
	for len(b) >= unix.NLA_HDRLEN {
		length := int(binary.NativeEndian.Uint16(b))
		if length < unix.NLA_HDRLEN || length > len(b) {
			return
		}
		if binary.NativeEndian.Uint16(b[2:])&attrType == typ {
			each(b[unix.NLA_HDRLEN:length])
		}
		b = b[min((length+unix.NLA_ALIGNTO-1)&^(unix.NLA_ALIGNTO-1), len(b)):]
	}
}
