package dnsname

import "encoding/binary"

// maxKept is how much of a message is kept while the rest has not arrived, in bytes. Of a longer
// one Parse reads the beginning.
const maxKept = 2 << 10

// Stream cuts what a DNS server sends over TCP into messages: each has its length in front
// (RFC 1035, section 4.2.2). The zero value is the beginning of a connection.
type Stream struct {
	kept []byte // of the current message with its length, if it began in an earlier piece
	skip int    // bytes of the current message that are not kept
}

// Feed takes the next bytes, and calls each with every message that is complete, or of which
// maxKept bytes have arrived. The message is valid during the call only.
func (s *Stream) Feed(p []byte, each func(message []byte)) {
	for len(p) > 0 {
		switch n := min(s.skip, len(p)); {
		case n > 0:
			p, s.skip = p[n:], s.skip-n
		case len(s.kept) > 0:
			n := min(s.missing(), len(p))
			s.kept, p = append(s.kept, p[:n]...), p[n:]
			if s.missing() == 0 {
				s.take(s.kept, each)
				s.kept = nil
			}
		case len(p) < 2 || len(p) < 2+min(length(p), maxKept):
			s.kept, p = append([]byte(nil), p...), nil
		default:
			n := 2 + min(length(p), maxKept)
			s.take(p[:n], each)
			p = p[n:]
		}
	}
}

// missing is how much of the current message has still to come before it is taken.
func (s *Stream) missing() int {
	if len(s.kept) < 2 {
		return 2 - len(s.kept)
	}
	return 2 + min(length(s.kept), maxKept) - len(s.kept)
}

// take gives a message, with its length in front, to each.
func (s *Stream) take(m []byte, each func(message []byte)) {
	s.skip = length(m) - (len(m) - 2)
	each(m[2:])
}

func length(m []byte) int { return int(binary.BigEndian.Uint16(m)) }
