package http1

import "math"

// chunks is the parsing state of a chunked body (RFC 9112 §7.1).
type chunks struct {
	state    chunkState
	digits   int // of the size
	line     int // bytes of the chunk's first line, or of the trailer section
	overhead int64
	name     [len("transfer-encoding")]byte // of the trailer field
	nameLen  int
}

type chunkState uint8

const (
	chunkSize chunkState = iota
	chunkExt
	chunkSizeLF
	chunkData
	chunkDataCR
	chunkDataLF
	trailerStart
	trailerName
	trailerValue
	trailerLF
	finalLF
)

// maxOverhead bounds framing with hardly any content: chunks of one byte are allowed,
// endless extensions are not. The calculation is net/http's.
const maxOverhead = 16 << 10

// nextChunked consumes bytes up to the end of the body or of buf.
func (b *Body) nextChunked(buf []byte) (int, error) {
	for i := 0; i < len(buf); {
		if b.chunks.state == chunkData {
			i += b.take(buf[i:])
			if b.left == 0 {
				b.chunks.state = chunkDataCR
			}
			continue
		}
		section := b.trailers != nil && b.chunks.state >= trailerStart
		if err := b.step(buf[i], b.offset+int64(i)); err != nil {
			return i, err
		}
		if section {
			*b.trailers = append(*b.trailers, buf[i])
		}
		i++
		if b.done {
			return i, nil
		}
	}
	return len(buf), nil
}

// step consumes one byte of framing.
func (b *Body) step(c byte, at int64) error {
	s := &b.chunks
	fail := func(reason string) error { return syntax(int(at), reason) }
	switch s.state {
	case chunkSize:
		return b.stepSize(c, at)
	case chunkExt:
		if c == '\r' {
			s.state = chunkSizeLF
		} else if class[c]&cValue == 0 {
			return fail("a chunk extension has a control byte")
		}
		return s.bound(maxChunkExt)
	case chunkSizeLF:
		if c != '\n' {
			return fail("CR without LF after a chunk size")
		}
		return b.beginChunk(at)
	case chunkDataCR:
		if c != '\r' {
			return fail("a chunk is longer than its size")
		}
		s.state = chunkDataLF
	case chunkDataLF:
		if c != '\n' {
			return fail("CR without LF after a chunk")
		}
		s.state, s.digits, s.line = chunkSize, 0, 0
	case trailerStart, trailerName, trailerValue:
		return s.stepTrailer(c, at)
	case trailerLF:
		if c != '\n' {
			return fail("CR without LF in the trailers")
		}
		s.state = trailerStart
		return s.bound(MaxTrailers)
	case finalLF:
		if c != '\n' {
			return fail("CR without LF after the trailers")
		}
		b.done = true
	}
	return nil
}

func (s *chunks) bound(limit int) error {
	if s.line++; s.line > limit {
		return ErrHeaderTooLarge
	}
	return nil
}

// stepSize: 1*HEXDIG, then an extension or the end of the line. White space may follow only
// in a response: some servers pad the sizes of their chunks. b.left is 0 after the previous
// chunk, so that the digits add up from 0.
func (b *Body) stepSize(c byte, at int64) error {
	s := &b.chunks
	s.line++
	switch digit, ok := hex(c); {
	case ok && s.digits == 16, ok && b.left > (math.MaxInt64-int64(digit))>>4:
		return syntax(int(at), "the chunk size is out of range")
	case ok:
		b.left = b.left<<4 | int64(digit)
		s.digits++
	case s.digits > 0 && c == '\r':
		s.state = chunkSizeLF
	case s.digits > 0 && (c == ';' || b.lax && (c == ' ' || c == '\t')):
		s.state = chunkExt
	default:
		return syntax(int(at), "the chunk size is not a hexadecimal number")
	}
	return nil
}

func hex(c byte) (byte, bool) {
	switch l := lower(c); {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= l && l <= 'f':
		return l - 'a' + 10, true
	}
	return 0, false
}

// beginChunk is called when the first line of a chunk is complete.
func (b *Body) beginChunk(at int64) error {
	s := &b.chunks
	s.overhead += int64(s.line) + 1 + 2 // the line including its LF, and the CRLF after the data
	s.overhead -= 16 + 2*min(b.left, maxOverhead)
	s.overhead = max(s.overhead, 0)
	if s.overhead > maxOverhead {
		return syntax(int(at), "the chunked body is mostly framing")
	}
	s.line = 0
	s.state = chunkData
	if b.left == 0 {
		s.state = trailerStart
	}
	return nil
}

// stepTrailer consumes one byte of a trailer field line.
func (s *chunks) stepTrailer(c byte, at int64) error {
	switch {
	case s.state == trailerStart && c == '\r':
		s.state = finalLF
	case s.state == trailerStart:
		s.state, s.nameLen = trailerName, 0
		fallthrough
	case s.state == trailerName && c != ':':
		if class[c]&cToken == 0 {
			return syntax(int(at), "a trailer field name has a byte that is not allowed")
		}
		if s.nameLen < len(s.name) {
			s.name[s.nameLen] = c
		}
		s.nameLen++
	case s.state == trailerName:
		if s.nameLen <= len(s.name) && classify(s.name[:s.nameLen]).framing() {
			return syntax(int(at), "a trailer field that decides framing or routing")
		}
		s.state = trailerValue
	case c == '\r':
		s.state = trailerLF
	case class[c]&cValue == 0:
		return syntax(int(at), "a trailer field value has a control byte")
	}
	return s.bound(MaxTrailers)
}
