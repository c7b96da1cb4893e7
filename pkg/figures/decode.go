package figures

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/underlane/underlane/pkg/histogram"
	"github.com/underlane/underlane/pkg/mesh"
)

var errEncoding = errors.New("figures: a window's encoding is broken")

// reader reads what live.encode wrote. After an error it reads zeros.
type reader struct {
	buf []byte
	err error
}

func (r *reader) number() uint64 {
	v, n := binary.Uvarint(r.buf)
	if n <= 0 {
		r.buf, r.err = nil, errEncoding
		return 0
	}
	r.buf = r.buf[n:]
	return v
}

func (r *reader) time() time.Duration { return time.Duration(r.number()) * time.Microsecond }

func (r *reader) byte() byte {
	if len(r.buf) == 0 {
		r.err = errEncoding
		return 0
	}
	b := r.buf[0]
	r.buf = r.buf[1:]
	return b
}

// add adds one window of one pair to s, except for the open connections, which it returns.
func (r *reader) add(s *Sums) (open uint64) {
	mask := uint16(r.byte())
	if mask&hasMore != 0 {
		mask |= uint16(r.byte()) << 8
	}
	field := func(bit uint16, to *uint64) {
		if mask&bit != 0 {
			*to += r.number()
		}
	}
	var failed, latencies uint64
	if mask&hasFailures != 0 {
		for range min(r.number(), uint64(mesh.NumReasons)) {
			reason, n := r.number(), r.number()
			s.Fail(mesh.Reason(min(reason, uint64(mesh.NumReasons)-1)), n)
			failed += n
		}
	}
	if mask&hasLatency != 0 {
		latencies = r.latency(s.latency())
	}
	if mask&hasParts != 0 {
		for i, which := 0, r.byte(); i < int(NumParts); i++ {
			if which&(1<<i) != 0 {
				low := uint16(r.byte())
				s.Parts[i] += time.Duration(long(low|uint16(r.byte())<<8)) * time.Microsecond
			}
		}
	}
	if mask&hasSuccess != 0 {
		s.Success += r.number()
	} else {
		s.Success += latencies - failed
	}
	field(hasRetries, &s.Retries)
	field(hasOpen, &open)
	field(hasOpened, &s.Opened)
	field(hasClosed, &s.Closed)
	field(hasFailed, &s.Failed)
	if mask&hasBytes != 0 {
		s.Read += r.number()
		s.Written += r.number()
	}
	if mask&hasSRTT != 0 {
		s.SRTT += r.time()
		s.SRTTs += r.number()
	}
	field(hasRetransmits, &s.Retransmits)
	if mask&hasMinRTT != 0 {
		s.MinRTT += r.time()
	}
	field(hasDenied, &s.Denied)
	field(hasAudited, &s.Audited)
	return open
}

// latency returns the number of the latencies. The data of a window is not changed, so that a
// histogram may refer to it.
func (r *reader) latency(h *histogram.Histogram) (total uint64) {
	filled := int(r.byte())
	packed, rest, total, err := histogram.Cut(r.buf, histogram.MinBucket, filled)
	if err != nil {
		r.buf, r.err = nil, errEncoding
		return 0
	}
	r.buf = rest
	h.AddPacked(packed)
	return total
}
