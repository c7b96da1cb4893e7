// Package hdr is a histogram of durations with a fixed relative error, after
// HdrHistogram: buckets are linear within each power of two. Recording is one
// addition, and histograms of several connections or rounds add up exactly.
package hdr

import (
	"encoding/json"
	"fmt"
	"math/bits"
	"time"
)

// subBits linear steps per power of two: an error of 1/2^subBits at most.
const (
	subBits = 7
	sub     = 1 << subBits
	buckets = (64 - subBits) * sub
)

// Histogram counts durations from 0 to the longest that a Duration can hold,
// within 0.8 % of each. The zero value is empty and ready. It is not safe for
// concurrent use.
type Histogram struct {
	counts []uint64
	total  uint64
	max    time.Duration
}

// index is the bucket of v. Below sub every value has its own.
func index(v uint64) int {
	shift := max(bits.Len64(v)-subBits-1, 0)
	return shift<<subBits + int(v>>shift)
}

// upper is the highest value of a bucket.
func upper(i int) uint64 {
	if i < 2*sub {
		return uint64(i)
	}
	shift := i>>subBits - 1
	return uint64(i-shift<<subBits+1)<<shift - 1
}

// Record counts d; a negative one counts as 0.
func (h *Histogram) Record(d time.Duration) {
	d = max(d, 0)
	if h.counts == nil {
		h.counts = make([]uint64, buckets)
	}
	h.counts[index(uint64(d))]++
	h.total++
	h.max = max(h.max, d)
}

// Add adds what other counted.
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

// Count is how many durations were recorded, and Max the longest of them.
func (h *Histogram) Count() uint64 { return h.total }

// Max is the longest duration recorded, exactly.
func (h *Histogram) Max() time.Duration { return h.max }

// Quantile is the duration that a share q (0 to 1) of all does not exceed, 0
// if there is none.
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
