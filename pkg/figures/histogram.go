package figures

import (
	"iter"
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

// Schema is the resolution of a Histogram, by the definition of Prometheus' native
// histograms: each bucket is 2^(2^-Schema) times as wide as the one below.
const Schema = 3

// The buckets of a Histogram. Bucket i has the latencies in (2^((i-1)/8), 2^(i/8)]
// milliseconds, as bucket i of a native histogram in milliseconds does. MinBucket also
// has all shorter latencies, MaxBucket all longer ones.
const (
	MinBucket = -79 // up to 1.065 µs
	MaxBucket = 133 // up to 101 s
	buckets   = MaxBucket - MinBucket + 1
)

// A Histogram allocates its counters in chunks of two octaves, because the latencies of
// one pair of workloads lie close together.
const (
	chunkSize = 2 << Schema
	chunks    = (buckets + chunkSize - 1) / chunkSize
)

type chunk [chunkSize]atomic.Uint64

// Histogram counts latencies. The zero value is empty and ready to use. All methods may
// be called concurrently, but a reader does not see one moment: the counts of several
// buckets are read one after the other. A Histogram must not be copied.
//
// The relative error of a quantile is at most 2^(1/16)-1 = 4.5 %, also of the sum of
// many histograms, because all have the same buckets.
type Histogram struct {
	chunks [chunks]atomic.Pointer[chunk]
}

// upper has the upper bounds of all buckets, in nanoseconds, rounded down: latencies are
// whole nanoseconds.
var upper = func() (bounds [buckets]int64) {
	for i := range bounds {
		bounds[i] = int64(math.Exp2(float64(i+MinBucket)/(1<<Schema)) * 1e6)
	}
	return bounds
}()

// first has, for each length in bits, the lowest bucket that a number of that length can
// be in.
var first = func() (at [65]uint8) {
	for length := range at {
		i := 0
		if length > 0 {
			for i < buckets-1 && upper[i]>>(min(length, 63)-1) == 0 {
				i++
			}
		}
		at[length] = uint8(i)
	}
	return at
}()

// BucketOf returns the bucket of a latency.
func BucketOf(d time.Duration) int {
	ns := max(0, int64(d))
	i := int(first[bits.Len64(uint64(ns))])
	for i < buckets-1 && ns > upper[i] {
		i++
	}
	return i + MinBucket
}

// UpperBound returns the longest latency of a bucket.
func UpperBound(bucket int) time.Duration { return time.Duration(upper[bucket-MinBucket]) }

// middle returns the latency that stands for a bucket: the geometric mean of its bounds.
func middle(bucket int) time.Duration {
	return time.Duration(math.Exp2((float64(bucket)-0.5)/(1<<Schema)) * 1e6)
}

// Observe counts a latency. It allocates at most once for each chunk of the Histogram.
func (h *Histogram) Observe(d time.Duration) { h.Add(BucketOf(d), 1) }

// Add counts n latencies in a bucket. A bucket outside the range is moved into it.
func (h *Histogram) Add(bucket int, n uint64) {
	i := min(max(bucket, MinBucket), MaxBucket) - MinBucket
	h.chunk(i / chunkSize)[i%chunkSize].Add(n)
}

func (h *Histogram) chunk(i int) *chunk {
	c := h.chunks[i].Load()
	if c == nil {
		h.chunks[i].CompareAndSwap(nil, new(chunk))
		c = h.chunks[i].Load()
	}
	return c
}

// Merge adds the counts of o.
func (h *Histogram) Merge(o *Histogram) {
	for bucket, n := range o.Buckets() {
		h.Add(bucket, n)
	}
}

// Buckets yields the buckets that are not empty, in ascending order, with their counts.
func (h *Histogram) Buckets() iter.Seq2[int, uint64] {
	return h.read(func(n *atomic.Uint64) uint64 { return n.Load() })
}

// drain yields what Buckets yields, and takes it out of the Histogram. A latency that is
// counted meanwhile is either in what is yielded or stays.
func (h *Histogram) drain() iter.Seq2[int, uint64] {
	return h.read(func(n *atomic.Uint64) uint64 {
		if n.Load() == 0 {
			return 0
		}
		return n.Swap(0)
	})
}

func (h *Histogram) read(get func(*atomic.Uint64) uint64) iter.Seq2[int, uint64] {
	return func(yield func(int, uint64) bool) {
		for i := range h.chunks {
			c := h.chunks[i].Load()
			if c == nil {
				continue
			}
			for j := range c {
				if n := get(&c[j]); n > 0 && !yield(i*chunkSize+j+MinBucket, n) {
					return
				}
			}
		}
	}
}

// Count returns the number of latencies.
func (h *Histogram) Count() (total uint64) {
	for _, n := range h.Buckets() {
		total += n
	}
	return total
}

// Quantile returns the latency below which the share q (0 to 1) of all latencies is, 0
// for an empty Histogram.
func (h *Histogram) Quantile(q float64) time.Duration {
	total := h.Count()
	rank := max(1, uint64(math.Ceil(q*float64(total))))
	var below uint64
	last := 0
	for bucket, n := range h.Buckets() {
		if below += n; below >= rank {
			return middle(bucket)
		}
		last = bucket
	}
	if total == 0 {
		return 0
	}
	return middle(last)
}

// Max returns the upper bound of the highest bucket that is not empty, 0 for an empty
// Histogram.
func (h *Histogram) Max() (d time.Duration) {
	for bucket := range h.Buckets() {
		d = UpperBound(bucket)
	}
	return d
}
