package observe

import (
	"bytes"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/http1"
)

type state uint8

const (
	inHead     state = iota
	inBody           // of a known length
	inChunks         // all bytes are known so far
	inBlind          // chunks, of which some bytes are not known: the end is told by the last ones
	untilClose       // the rest of the stream
	lost             // in the middle of something, until a segment begins like a message
)

const (
	maxHead    = 4 << 10 // bytes of a head that are kept
	maxPending = 8       // segments that wait for an earlier one
)

// stream is one direction of a connection.
type stream struct {
	seen    bool
	next    uint32 // sequence number that is expected
	state   state
	begun   bool          // a message was read from it
	head    []byte        // of the message that begins
	headAt  time.Duration // of its first byte
	left    uint64        // of a body of a known length
	body    http1.Body    // inChunks
	bytes   uint64        // of the body so far
	pending []segment     // by sequence number
	last    time.Duration // of the last segment
}

// segment is what a stream needs of a Segment.
type segment struct {
	seq, length, skipped uint32
	data, tail           []byte
	at                   time.Duration
}

// cut drops the first n bytes.
func (s *segment) cut(n uint32) {
	s.seq += n
	s.length -= n
	if n <= s.skipped {
		s.skipped -= n
		return
	}
	n -= s.skipped
	s.skipped = 0
	s.data = s.data[min(int(n), len(s.data)):]
}

// known returns the bytes that are known from the beginning on.
func (s *segment) known() []byte {
	if s.skipped > 0 {
		return nil
	}
	return s.data[:min(len(s.data), int(s.length))]
}

func (s *segment) whole() bool { return uint32(len(s.known())) == s.length }

// size is what the stream keeps.
func (s *stream) size() int {
	n := cap(s.head)
	for i := range s.pending {
		n += len(s.pending[i].data)
	}
	return n
}

// passes reports whether n bytes may be missed without harm: they are of a body.
func (s *stream) passes(n uint32) bool {
	switch s.state {
	case inBody:
		return uint64(n) <= s.left
	case inBlind, untilClose, lost:
		return true
	}
	return false
}

// beginsLike reports whether b begins like a message of HTTP/1.
func beginsLike(b []byte, request bool) bool {
	if !request {
		return bytes.HasPrefix(b, []byte("HTTP/1."))
	}
	space := bytes.IndexByte(b, ' ')
	if space < 3 || space > http1.MaxMethod || len(b) < space+2 {
		return false
	}
	for _, c := range b[:space] {
		if (c < 'A' || c > 'Z') && c != '-' {
			return false
		}
	}
	return b[space+1] == '/' || b[space+1] == '*' || bytes.HasPrefix(b[space+1:], []byte("http"))
}

// chunksEnd reports whether a segment ends as the last chunk without trailers does.
func chunksEnd(s *segment) bool {
	const last = "0\r\n\r\n"
	return s.length == uint32(len(last)) && string(s.known()) == last || bytes.HasSuffix(s.tail, []byte("\r\n"+last))
}
