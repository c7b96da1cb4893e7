package histogram

import (
	"encoding/binary"
	"errors"
	"iter"
)

// A bucket of a packed histogram is a byte: in its upper 3 bits how many empty buckets are
// before it, in the lower 5 bits its count less one. If a number does not fit, the bits are all
// ones and the rest of the number follows as a varint, that of the empty buckets first.
const (
	maxGap   = 1<<3 - 1
	maxCount = 1<<5 - 1
)

// Packed is an encoding of the buckets of a histogram of the Standard layout, and cannot be
// changed.
type Packed struct {
	first int // the bucket that the empty ones before the first are counted from
	data  []byte
}

var errPacked = errors.New("a packed histogram is broken")

// Append appends the encoding of buckets, as Buckets yields them. Empty buckets are counted
// from first on. It returns how many buckets and latencies there are.
func Append(to []byte, first int, buckets iter.Seq2[int, uint64]) (out []byte, filled int, total uint64) {
	for bucket, n := range buckets {
		gap, count := uint64(bucket-first), n-1
		to = append(to, byte(min(gap, maxGap)<<5|min(count, maxCount)))
		if gap >= maxGap {
			to = binary.AppendUvarint(to, gap-maxGap)
		}
		if count >= maxCount {
			to = binary.AppendUvarint(to, count-maxCount)
		}
		filled, first, total = filled+1, bucket+1, total+n
	}
	return to, filled, total
}

// Cut takes the encoding of so many buckets from the start of data, which it returns without
// it. total is the number of latencies.
func Cut(data []byte, first, filled int) (p Packed, rest []byte, total uint64, err error) {
	rest = data
	for range filled {
		if len(rest) == 0 {
			return Packed{}, nil, 0, errPacked
		}
		b := rest[0]
		rest = rest[1:]
		count := uint64(b & maxCount)
		if b>>5 == maxGap {
			_, n := binary.Uvarint(rest)
			if n <= 0 {
				return Packed{}, nil, 0, errPacked
			}
			rest = rest[n:]
		}
		if count == maxCount {
			more, n := binary.Uvarint(rest)
			if n <= 0 {
				return Packed{}, nil, 0, errPacked
			}
			count, rest = count+more, rest[n:]
		}
		total += count + 1
	}
	return Packed{first, data[:len(data)-len(rest)]}, rest, total, nil
}

// Keep returns a Histogram with the counts of a copy of p. The copies of many lie together, in
// what is left of a buffer.
func (p Packed) Keep(buffer *[]byte) *Histogram {
	n := len(p.data)
	if cap(*buffer)-len(*buffer) < n {
		*buffer = make([]byte, 0, max(n, keptTogether))
	}
	*buffer = append(*buffer, p.data...)
	p.data = (*buffer)[len(*buffer)-n : len(*buffer) : len(*buffer)]
	return p.Histogram()
}

// Histogram returns a Histogram that refers to p, and copies it when it is changed.
func (p Packed) Histogram() *Histogram {
	h := &struct {
		Histogram
		counts counts
	}{counts: counts{layout: Standard, packed: p}}
	h.Histogram.counts.Store(&h.counts)
	return &h.Histogram
}

// keptTogether is how many bytes of copies stay in memory together.
const keptTogether = 16 << 10

// AddPacked adds the counts of p. An empty Histogram refers to p then, and copies it when it is
// changed.
func (h *Histogram) AddPacked(p Packed) {
	if h.counts.Load() == nil {
		h.counts.Store(&counts{layout: Standard, packed: p})
		return
	}
	for bucket, n := range p.buckets() {
		h.Add(bucket, n)
	}
}

// buckets yields the buckets and their counts. A bucket outside the range, which no Append has
// written, is moved into it.
func (p Packed) buckets() iter.Seq2[int, uint64] {
	return func(yield func(int, uint64) bool) {
		next, data := p.first, p.data
		for len(data) > 0 {
			b := data[0]
			data = data[1:]
			gap, count := uint64(b>>5), uint64(b&maxCount)
			if gap == maxGap {
				more, n := binary.Uvarint(data)
				gap, data = gap+more, data[n:]
			}
			if count == maxCount {
				more, n := binary.Uvarint(data)
				count, data = count+more, data[n:]
			}
			next += int(min(gap, MaxBucket-MinBucket))
			if !yield(min(max(next, MinBucket), MaxBucket), count+1) {
				return
			}
			next++
		}
	}
}
