// Package hdr has a histogram of durations with a fixed relative error, like
// HdrHistogram. Buckets are linear within each power of two. Recording is one
// addition, and histograms of several connections or rounds add up exactly.
package hdr

import (
	"encoding/json"
	"fmt"
	"math/bits"
	"time"
)

// There are 2^subBits linear steps per power of two, for an error of at most
// 1/2^subBits.
const (
	subBits = 7
	sub     = 1 << subBits
	buckets = (64 - subBits) * sub
)

// Histogram counts durations from 0 to the longest time.Duration, each within
// 0.8 %. The zero value is empty and ready for use. It is not safe for concurrent
// use.
type Histogram struct {
	counts []uint64
	total  uint64
	max    time.Duration
}

// index returns the bucket of v. Each value below sub has its own.
func index(v uint64) int {
	shift := max(bits.Len64(v)-subBits-1, 0)
	return shift<<subBits + int(v>>shift)
}

// upper returns the highest value of a bucket.
func upper(i int) uint64 {
	if i < 2*sub {
		return uint64(i)
	}
	shift := i>>subBits - 1
	return uint64(i-shift<<subBits+1)<<shift - 1
}

// Record counts d. A negative d counts as 0.
func (h *Histogram) Record(d time.Duration) {
	d = max(d, 0)
	if h.counts == nil {
		h.counts = make([]uint64, buckets)
	}
	h.counts[index(uint64(d))]++
	h.total++
	h.max = max(h.max, d)
}

// Add adds the counts of other.
func (h *Histogram) Add(other *Histogram) {
	if other.total == 0 {
		return
	}
	if h.counts == nil {
		h.counts = make([]uint64, buckets)
	}
	for i, n := range other.counts {
		h.counts[i] += n
	}
	h.total += other.total
	h.max = max(h.max, other.max)
}

// Count returns the number of recorded durations.
func (h *Histogram) Count() uint64 { return h.total }

// Max returns the exact longest recorded duration.
func (h *Histogram) Max() time.Duration { return h.max }

// Quantile returns the duration that a share q (0 to 1) of all durations does not
// exceed. It is 0 if there is none.
func (h *Histogram) Quantile(q float64) time.Duration {
	rank := uint64(q*float64(h.total) + 0.999999)
	rank = min(max(rank, 1), h.total)
	var seen uint64
	for i, n := range h.counts {
		seen += n
		if n > 0 && seen >= rank {
			return min(time.Duration(upper(i)), h.max)
		}
	}
	return 0
}

// sparse is a histogram as JSON: pairs of bucket and count.
type sparse struct {
	SubBits int
	Max     time.Duration
	Buckets [][2]uint64
}

// MarshalJSON writes the buckets that are not empty.
func (h *Histogram) MarshalJSON() ([]byte, error) {
	s := sparse{SubBits: subBits, Max: h.max, Buckets: [][2]uint64{}}
	for i, n := range h.counts {
		if n > 0 {
			s.Buckets = append(s.Buckets, [2]uint64{uint64(i), n})
		}
	}
	return json.Marshal(s)
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (h *Histogram) UnmarshalJSON(text []byte) error {
	var s sparse
	if err := json.Unmarshal(text, &s); err != nil {
		return fmt.Errorf("read histogram: %w", err)
	}
	if s.SubBits != subBits {
		return fmt.Errorf("read histogram: its resolution is %d bits and not %d", s.SubBits, subBits)
	}
	*h = Histogram{max: s.Max}
	for _, b := range s.Buckets {
		if b[0] >= buckets {
			return fmt.Errorf("read histogram: there is no bucket %d", b[0])
		}
		if h.counts == nil {
			h.counts = make([]uint64, buckets)
		}
		h.counts[b[0]] += b[1]
		h.total += b[1]
	}
	return nil
}
