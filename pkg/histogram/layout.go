package histogram

import (
	"math"
	"math/bits"
	"slices"
	"time"
)

// Schema is the resolution of the Standard layout, by the definition of Prometheus' native
// histograms: each bucket is 2^(2^-Schema) times as wide as the one below.
const Schema = 3

// The buckets of the Standard layout. Bucket i has the latencies in (2^((i-1)/8), 2^(i/8)]
// milliseconds, as bucket i of a native histogram in milliseconds does. MinBucket also has
// all shorter latencies, MaxBucket all longer ones.
const (
	MinBucket = -79 // up to 1.065 µs
	MaxBucket = 133 // up to 101 s
)

// Linkerd has the upper bounds of Linkerd's latency buckets, in milliseconds. Standard keeps
// the latencies on either side of each of them apart, so that they can be exported exactly.
var Linkerd = [...]float64{
	1, 2, 3, 4, 5, 10, 20, 30, 40, 50, 100, 200, 300, 400, 500,
	1000, 2000, 3000, 4000, 5000, 10000, 20000, 30000, 40000, 50000,
}

// Layout says how a Histogram divides latencies. Its cells are the buckets of a native
// histogram, some of them divided further.
type Layout struct {
	schema   int
	min, max int     // buckets
	upper    []int64 // of each cell, in nanoseconds, rounded down: latencies are whole nanoseconds
	bucket   []int16 // that each cell is in
	cell     []int16 // the first cell of each bucket, from min on
	// lowest has, for each length in bits and the bits after the first one, the lowest cell
	// that such a number of nanoseconds can be in.
	lowest []uint16
	after  int // how many bits after the first one
}

var (
	// Standard is for what agents count. A quantile is off by at most 2^(1/16)-1 = 4.5 %,
	// also of the sum of many histograms, because all have the same buckets.
	Standard = newLayout(Schema, 3, Linkerd[:])
	// Fine is for measuring, where 1 % is a result: a quantile is off by at most
	// 2^(1/256)-1 = 0.27 %. A Histogram takes sixteen times as much memory.
	Fine = newLayout(Schema+4, 6, nil)
)

// newLayout makes a layout that also divides at these bounds, in milliseconds.
func newLayout(schema, after int, bounds []float64) *Layout {
	l := &Layout{schema: schema, min: (MinBucket-1)<<(schema-Schema) + 1, max: MaxBucket << (schema - Schema), after: after}
	extra := slices.Clone(bounds)
	for bucket := l.min; bucket <= l.max; bucket++ {
		l.cell = append(l.cell, int16(len(l.upper)))
		upper := int64(math.Exp2(float64(bucket)/float64(int(1)<<schema)) * 1e6)
		for len(extra) > 0 && int64(extra[0]*1e6) <= upper {
			if int64(extra[0]*1e6) < upper {
				l.upper, l.bucket = append(l.upper, int64(extra[0]*1e6)), append(l.bucket, int16(bucket))
			}
			extra = extra[1:]
		}
		l.upper, l.bucket = append(l.upper, upper), append(l.bucket, int16(bucket))
	}
	l.lowest = make([]uint16, 65<<after)
	for length := range 65 {
		for next := range 1 << after {
			least := uint64(0)
			if length > 0 {
				least = shift(uint64(1<<after+next), length-1-after)
			}
			i := 0
			for i < len(l.upper)-1 && uint64(l.upper[i]) < least {
				i++
			}
			l.lowest[length<<after|next] = uint16(i)
		}
	}
	return l
}

// find returns the cell of a latency.
func (l *Layout) find(d time.Duration) int {
	ns := uint64(max(0, int64(d)))
	length := bits.Len64(ns)
	next := shift(ns, l.after+1-length) & (1<<l.after - 1) // the bits after the first one
	i := int(l.lowest[length<<l.after|int(next)])
	for i < len(l.upper)-1 && ns > uint64(l.upper[i]) {
		i++
	}
	return i
}

// shift returns n, shifted to the left by so many bits, or to the right.
func shift(n uint64, by int) uint64 {
	if by >= 0 {
		return n << by
	}
	return n >> -by
}

// BucketOf returns the bucket of a latency.
func (l *Layout) BucketOf(d time.Duration) int { return int(l.bucket[l.find(d)]) }

// UpperBound returns the longest latency of a bucket.
func (l *Layout) UpperBound(bucket int) time.Duration {
	return time.Duration(math.Exp2(float64(bucket)/float64(int(1)<<l.schema)) * 1e6)
}

// middle returns the latency that stands for a bucket: the geometric mean of its bounds.
func (l *Layout) middle(bucket int) time.Duration {
	return time.Duration(math.Exp2((float64(bucket)-0.5)/float64(int(1)<<l.schema)) * 1e6)
}

// BucketOf returns the bucket of a latency in the Standard layout.
func BucketOf(d time.Duration) int { return Standard.BucketOf(d) }

// UpperBound returns the longest latency of a bucket of the Standard layout.
func UpperBound(bucket int) time.Duration { return Standard.UpperBound(bucket) }
