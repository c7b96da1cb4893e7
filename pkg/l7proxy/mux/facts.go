package mux

import (
	"net/netip"

	"github.com/underlane/underlane/pkg/rawio"
)

// Wire returns what the kernel knows of the shared connection now, without its bytes, and
// the addresses by which both agents know an opaque connection: those of the shared one,
// with the port of the client. The retransmits are those that no other stream has reported:
// the sum over all streams is that of the connection.
//
// Of a stream that has moved, the round-trip times are those of its new connection, and the
// addresses stay as they are.
func (s *Stream) Wire() (f rawio.Facts, local, remote netip.AddrPort) {
	f, local, remote = s.wire()
	if s.accepted.Load() {
		if raw := s.move.to.Raw(); raw != nil {
			now := raw.Now()
			f.SRTT, f.MinRTT, f.Retransmits = now.SRTT, now.MinRTT, f.Retransmits+now.Retransmits
		}
	}
	return f, local, remote
}

func (s *Stream) wire() (f rawio.Facts, local, remote netip.AddrPort) {
	raw := s.c.NC.Raw()
	if raw == nil {
		return f, local, remote
	}
	now := raw.Now()
	s.c.Lock()
	if now.Retransmits > s.c.reported {
		s.retransmits += now.Retransmits - s.c.reported
		s.c.reported = now.Retransmits
	}
	f = rawio.Facts{SRTT: now.SRTT, MinRTT: now.MinRTT, Retransmits: s.retransmits}
	s.c.Unlock()
	local, remote = raw.Local(), raw.Remote()
	if s.c.accept == nil {
		return f, netip.AddrPortFrom(local.Addr(), s.Port), remote
	}
	return f, local, netip.AddrPortFrom(remote.Addr(), s.Port)
}
