package history

import (
	"encoding/binary"
	"errors"
	"math/bits"
	"slices"
	"time"

	"github.com/underlane/underlane/pkg/figures"
	"github.com/underlane/underlane/pkg/histogram"
	"github.com/underlane/underlane/pkg/mesh"
)

var errEncoding = errors.New("a block of the history is broken")

// A block is a list of records, ascending by edge. A record is the number of its edge, as
// the difference to the one before, a mask that says what follows, and that in the order
// of the bits. Numbers are varints. Bytes of one kind are together (columns), because they
// compress better: a tenth less than record by record.
const (
	hasFailures = 1 << iota // their number, and for each a reason and a count
	hasLatency              // first bucket, number of buckets, and what histogram writes
	hasParts                // a mask of the parts, and for each a short in microseconds
	hasSuccess              // absent: all latencies but those of the failures
	hasRetries
	hasTCP // a second mask
)

const (
	hasOpen = 1 << iota
	hasOpened
	hasClosed
	hasFailed
	hasBytes // read, written
	hasSRTT  // sum in microseconds, connections
	hasRetransmits
)

// columns are the records of a block.
type columns struct {
	head, buckets, parts []byte
}

// reasons gives the failure reasons numbers that stay the same when another version of the
// controller, whose mesh.Reason may have other numbers, reads the file.
type reasons struct {
	names  []string // by number
	of     []mesh.Reason
	number map[mesh.Reason]uint64
}

// newReasons returns the numbers of a file, nil for none, and further ones for the reasons
// that it does not have.
func newReasons(names []string) *reasons {
	r := &reasons{number: map[mesh.Reason]uint64{}}
	for _, name := range names {
		r.add(name)
	}
	for reason := range mesh.NumReasons {
		if _, ok := r.number[reason]; !ok {
			r.add(reason.String())
		}
	}
	return r
}

func (r *reasons) add(name string) {
	reason := mesh.ParseReason(name)
	if _, ok := r.number[reason]; !ok {
		r.number[reason] = uint64(len(r.names))
	}
	r.names, r.of = append(r.names, name), append(r.of, reason)
}

// sums appends the encoding of s to c, and reports whether there is any: nothing is
// appended if s is empty.
func (c *columns) sums(r *reasons, s *figures.Sums) bool {
	at := len(c.head)
	c.head = append(c.head, 0)
	var mask byte
	put := func(bit byte, values ...uint64) {
		mask |= bit
		for _, v := range values {
			c.head = binary.AppendUvarint(c.head, v)
		}
	}
	if len(s.Failures) > 0 {
		put(hasFailures, uint64(len(s.Failures)))
		for _, f := range s.Failures {
			put(hasFailures, r.number[f.Reason], f.Count)
		}
	}
	var latencies uint64
	if s.Latency != nil {
		if latencies = c.histogram(s.Latency); latencies > 0 {
			mask |= hasLatency
		}
	}
	if s.Parts != [figures.NumParts]time.Duration{} {
		which := len(c.head)
		c.head, mask = append(c.head, 0), mask|hasParts
		for i, d := range s.Parts {
			if us := d.Microseconds(); us > 0 {
				c.head[which] |= 1 << i
				c.parts = append(c.parts, short(uint64(us))...)
			}
		}
	}
	if s.Success+s.FailedRequests() != latencies {
		put(hasSuccess, s.Success)
	}
	if s.Retries > 0 {
		put(hasRetries, s.Retries)
	}
	start := len(c.head)
	if c.head = appendTCP(c.head, s); len(c.head) > start {
		mask |= hasTCP
	}
	if mask == 0 {
		c.head = c.head[:at]
		return false
	}
	c.head[at] = mask
	return true
}

func appendTCP(b []byte, s *figures.Sums) []byte {
	at := len(b)
	b = append(b, 0)
	put := func(bit byte, values ...uint64) {
		if slices.Max(values) == 0 {
			return
		}
		b[at] |= bit
		for _, v := range values {
			b = binary.AppendUvarint(b, v)
		}
	}
	put(hasOpen, s.Open)
	put(hasOpened, s.Opened)
	put(hasClosed, s.Closed)
	put(hasFailed, s.Failed)
	put(hasBytes, s.Read, s.Written)
	put(hasSRTT, uint64(max(0, s.SRTT.Microseconds())), s.SRTTs)
	put(hasRetransmits, s.Retransmits)
	if b[at] == 0 {
		return b[:at]
	}
	return b
}

// histogram returns the number of all latencies. The head has the first bucket and the number
// of buckets, the buckets what histogram.Append writes.
func (c *columns) histogram(h *histogram.Histogram) (total uint64) {
	first, filled := h.First(), 0
	if c.buckets, filled, total = histogram.Append(c.buckets, first, h.Buckets()); filled > 0 {
		c.head = append(c.head, byte(first-histogram.MinBucket), byte(filled))
	}
	return total
}

// short is a number in 16 bits, rounded to its upper 8 bits: off by at most 0.4 %. The
// second byte says how far it is shifted.
func short(v uint64) []byte {
	shift := max(0, bits.Len64(v)-8)
	if shift > 0 && v < 1<<63 {
		v += 1 << (shift - 1)
		shift = max(0, bits.Len64(v)-8)
	}
	return []byte{byte(v >> shift), byte(shift)}
}

// reader reads records. After an error it reads zeros.
type reader struct {
	columns
	reasons *reasons
	kept    *[]byte // copies of what is kept of the columns; nil: these are not changed
	err     error
}

func (r *reader) number(from *[]byte) uint64 {
	v, n := binary.Uvarint(*from)
	if n <= 0 {
		*from, r.err = nil, errEncoding
		return 0
	}
	*from = (*from)[n:]
	return v
}

func (r *reader) byte(from *[]byte) byte {
	if len(*from) == 0 {
		r.err = errEncoding
		return 0
	}
	b := (*from)[0]
	*from = (*from)[1:]
	return b
}

// sums adds what columns.sums wrote to s, except for the open connections, which it returns.
// With s nil it skips a record.
func (r *reader) sums(s *figures.Sums) (open uint64) {
	var skipped figures.Sums
	skip := s == nil
	if skip {
		s = &skipped
	}
	mask := r.byte(&r.head)
	var failed, latencies uint64
	if mask&hasFailures != 0 {
		for range min(r.number(&r.head), uint64(len(r.reasons.of))) {
			reason, n := min(r.number(&r.head), uint64(len(r.reasons.of)-1)), r.number(&r.head)
			failed += n
			if !skip {
				s.Fail(r.reasons.of[reason], n)
			}
		}
	}
	if mask&hasLatency != 0 {
		latencies = r.histogram(s, skip)
	}
	if mask&hasParts != 0 {
		for i, which := 0, r.byte(&r.head); i < int(figures.NumParts); i++ {
			if which&(1<<i) != 0 {
				value, shift := uint64(r.byte(&r.parts)), r.byte(&r.parts)
				s.Parts[i] += time.Duration(value<<min(shift, 44)) * time.Microsecond
			}
		}
	}
	if mask&hasSuccess != 0 {
		s.Success += r.number(&r.head)
	} else {
		s.Success += latencies - failed
	}
	if mask&hasRetries != 0 {
		s.Retries += r.number(&r.head)
	}
	if mask&hasTCP != 0 {
		open = r.tcp(s)
	}
	return open
}

func (r *reader) tcp(s *figures.Sums) (open uint64) {
	mask := r.byte(&r.head)
	get := func(bit byte, fields ...*uint64) {
		if mask&bit != 0 {
			for _, field := range fields {
				*field += r.number(&r.head)
			}
		}
	}
	var micros uint64
	get(hasOpen, &open)
	get(hasOpened, &s.Opened)
	get(hasClosed, &s.Closed)
	get(hasFailed, &s.Failed)
	get(hasBytes, &s.Read, &s.Written)
	get(hasSRTT, &micros, &s.SRTTs)
	get(hasRetransmits, &s.Retransmits)
	s.SRTT += time.Duration(min(micros, 1<<53)) * time.Microsecond
	return open
}

// histogram returns the number of the latencies. What it adds to an empty histogram is a copy
// where the column is used again.
func (r *reader) histogram(s *figures.Sums, skip bool) (total uint64) {
	first, filled := int(r.byte(&r.head))+histogram.MinBucket, int(r.byte(&r.head))
	packed, rest, total, err := histogram.Cut(r.buckets, first, filled)
	if err != nil {
		r.head, r.err = nil, errEncoding
		return 0
	}
	r.buckets = rest
	switch {
	case skip:
	case s.Latency == nil && r.kept != nil:
		s.Latency = packed.Keep(r.kept)
	case s.Latency == nil:
		s.Latency = packed.Histogram()
	default:
		s.Latency.AddPacked(packed)
	}
	return total
}
