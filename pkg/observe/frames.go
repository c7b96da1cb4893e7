package observe

import (
	"encoding/binary"
	"time"

	engine "github.com/underlane/underlane/pkg/l7proxy/http2"
)

const (
	frameHeader = 9
	maxFrame    = 16 << 10 // payload of a frame that is not DATA, unless SETTINGS raise it
)

// frames reads the frames of one direction of HTTP/2 (RFC 9113 §4.1). The payload of DATA
// may be missing.
type frames struct {
	preface bool // of the client: not read yet
	lost    bool // until a segment begins like a frame
	head    [frameHeader]byte
	have    int // bytes of head
	frame
	block     block
	at        time.Duration // when the block began
	tableSize uint32        // SETTINGS_HEADER_TABLE_SIZE, if tableSet
	tableSet  bool
}

// frame is the one that is being read.
type frame struct {
	kind   engine.FrameType
	flags  engine.Flags
	stream uint32
	left   uint32 // bytes of the payload that are still to come
	prefix uint32 // of them, those before the field block
	padded bool   // the next byte is the length of the padding
	pad    uint32 // bytes of padding at the end
	small  [8]byte
	filled int // bytes of small
}

func (s *frames) begin() {
	h := s.head[:]
	s.have = 0
	s.frame = frame{
		kind: engine.FrameType(h[3]), flags: engine.Flags(h[4]),
		stream: binary.BigEndian.Uint32(h[5:]) &^ (1 << 31),
		left:   uint32(h[0])<<16 | uint32(h[1])<<8 | uint32(h[2]),
	}
	switch s.kind {
	case engine.FrameHeaders:
		s.padded = s.flags.Has(engine.FlagPadded)
		if s.flags.Has(engine.FlagPriority) {
			s.prefix = 5
		}
	case engine.FramePushPromise:
		s.padded = s.flags.Has(engine.FlagPadded)
		s.prefix = 4
	}
}

// passes reports whether n bytes may be missed without harm.
func (s *frames) passes(n uint32) bool {
	return s.lost || s.kind == engine.FrameData && s.have == 0 && n <= s.left
}

// boundary returns how many bytes from here the next frame begins, if what is before does not
// matter.
func (s *frames) boundary() (n uint32, ok bool) {
	switch {
	case s.lost || s.have > 0 || s.preface:
		return 0, false
	case s.left == 0:
		return 0, s.block.stream == 0
	}
	return s.left, s.kind == engine.FrameData
}

// likeFrames reports whether b, with which a segment begins, looks like whole frames: the
// first header is one that RFC 9113 §6 allows, and so are those that follow, as far as they
// are there.
func likeFrames(b []byte) bool {
	if len(b) < frameHeader {
		return false
	}
	for n := 0; len(b) >= frameHeader && n < 8; n++ {
		length := int(b[0])<<16 | int(b[1])<<8 | int(b[2])
		if !likeFrame(engine.FrameType(b[3]), b[4], binary.BigEndian.Uint32(b[5:]), length) {
			return false
		}
		b = b[min(len(b), frameHeader+length):]
	}
	return true
}

func likeFrame(kind engine.FrameType, flags byte, stream uint32, length int) bool {
	if stream>>31 != 0 || length > maxFrame && kind != engine.FrameData {
		return false
	}
	allowed, connection, exact := byte(0), false, -1
	switch kind {
	case engine.FrameData:
		allowed = byte(engine.FlagEndStream | engine.FlagPadded)
	case engine.FrameHeaders:
		allowed = byte(engine.FlagEndStream | engine.FlagEndHeaders | engine.FlagPadded | engine.FlagPriority)
	case engine.FramePriority:
		exact = 5
	case engine.FrameRSTStream:
		exact = 4
	case engine.FrameSettings:
		allowed, connection = byte(engine.FlagAck), true
		if length%6 != 0 || flags != 0 && length != 0 {
			return false
		}
	case engine.FramePushPromise:
		allowed = byte(engine.FlagEndHeaders | engine.FlagPadded)
	case engine.FramePing:
		allowed, connection, exact = byte(engine.FlagAck), true, 8
	case engine.FrameGoAway:
		connection = true
	case engine.FrameWindowUpdate:
		return flags == 0 && length == 4
	default: // CONTINUATION is in the middle of something
		return false
	}
	return flags&^allowed == 0 && (stream == 0) == connection && (exact < 0 || length == exact)
}

// answer is that of beginsHTTP2.
type answer uint8

const (
	no      answer = iota
	perhaps        // there have to be more bytes to tell
	yes
)

// beginsHTTP2 reports whether a stream that begins with b is HTTP/2. A server may speak first:
// it begins with SETTINGS.
func beginsHTTP2(b []byte, side int) answer {
	if side == requests {
		const preface = engine.Preface
		switch n := min(len(b), len(preface)); {
		case n <= len("PR") || string(b[:n]) != preface[:n]: // PROPFIND is a method
			return no
		case n < len(preface):
			return perhaps
		}
		return yes
	}
	switch {
	case len(b) == 0 || b[0] != 0:
		return no
	case len(b) < frameHeader:
		return perhaps
	case engine.FrameType(b[3]) == engine.FrameSettings && b[4] == 0 && likeFrames(b[:frameHeader]):
		return yes
	}
	return no
}
