package wire

import (
	"encoding/binary"
	"net/netip"
)

// Segment is one TCP segment on the wire.
type Segment struct {
	From, To netip.AddrPort
	Payload  []byte // part of the frame; empty for a bare ACK
}

const (
	ethernetHeader = 14
	etherTypeIPv4  = 0x0800
	etherTypeIPv6  = 0x86dd
	protocolTCP    = 6
)

// ParseFrame parses an Ethernet frame. ok is false if it has no TCP segment that can
// be parsed, as for a later fragment or IPv6 extension headers.
func ParseFrame(frame []byte) (s Segment, ok bool) {
	if len(frame) < ethernetHeader {
		return Segment{}, false
	}
	packet := frame[ethernetHeader:]
	switch binary.BigEndian.Uint16(frame[12:]) {
	case etherTypeIPv4:
		return parseIPv4(packet)
	case etherTypeIPv6:
		return parseIPv6(packet)
	}
	return Segment{}, false
}

// parseIPv4 parses an IPv4 packet (RFC 791 §3.1).
func parseIPv4(p []byte) (Segment, bool) {
	if len(p) < 20 || p[9] != protocolTCP {
		return Segment{}, false
	}
	header, total := int(p[0]&0xf)*4, int(binary.BigEndian.Uint16(p[2:]))
	fragmentOffset := binary.BigEndian.Uint16(p[6:]) & 0x1fff
	if header < 20 || total < header || total > len(p) || fragmentOffset != 0 {
		return Segment{}, false
	}
	return parseTCP(netip.AddrFrom4([4]byte(p[12:])), netip.AddrFrom4([4]byte(p[16:])), p[header:total])
}

// parseIPv6 parses an IPv6 packet (RFC 8200 §3).
func parseIPv6(p []byte) (Segment, bool) {
	if len(p) < 40 || p[6] != protocolTCP {
		return Segment{}, false
	}
	length := int(binary.BigEndian.Uint16(p[4:]))
	if length > len(p)-40 {
		return Segment{}, false
	}
	return parseTCP(netip.AddrFrom16([16]byte(p[8:])), netip.AddrFrom16([16]byte(p[24:])), p[40:40+length])
}

// parseTCP parses a TCP segment (RFC 9293 §3.1).
func parseTCP(from, to netip.Addr, p []byte) (Segment, bool) {
	if len(p) < 20 {
		return Segment{}, false
	}
	header := int(p[12]>>4) * 4
	if header < 20 || header > len(p) {
		return Segment{}, false
	}
	return Segment{
		From:    netip.AddrPortFrom(from, binary.BigEndian.Uint16(p[0:])),
		To:      netip.AddrPortFrom(to, binary.BigEndian.Uint16(p[2:])),
		Payload: p[header:],
	}, true
}

// NewFrame is the inverse of ParseFrame, for tests. It returns an Ethernet frame with
// s, without checksums.
func NewFrame(s Segment) []byte {
	frame := make([]byte, 12, 128)
	from, to := s.From.Addr().AsSlice(), s.To.Addr().AsSlice()
	length := uint16(20 + len(s.Payload))
	if s.From.Addr().Is4() {
		frame = binary.BigEndian.AppendUint16(frame, etherTypeIPv4)
		frame = append(frame, 0x45, 0)
		frame = binary.BigEndian.AppendUint16(frame, 20+length)
		frame = append(frame, 0, 0, 0, 0, 64, protocolTCP, 0, 0)
	} else {
		frame = binary.BigEndian.AppendUint16(frame, etherTypeIPv6)
		frame = append(frame, 0x60, 0, 0, 0)
		frame = binary.BigEndian.AppendUint16(frame, length)
		frame = append(frame, protocolTCP, 64)
	}
	frame = append(append(frame, from...), to...)
	frame = binary.BigEndian.AppendUint16(frame, s.From.Port())
	frame = binary.BigEndian.AppendUint16(frame, s.To.Port())
	frame = append(frame, make([]byte, 8)...)
	frame = append(frame, 0x50, 0x18, 0, 0, 0, 0, 0, 0)
	return append(frame, s.Payload...)
}
