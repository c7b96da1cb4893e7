// Package histogram has the one histogram of latencies: of what agents count, of what the
// controller remembers, of metrics and of the benchmark. Histograms of one layout add up
// exactly.
//
// Its buckets are exponential, as those of Prometheus' native histograms. None of the known
// libraries fits: they take a lock (OpenTelemetry's exponential histogram, DDSketch), do not
// count concurrently (HdrHistogram), or take several kilobytes each (client_golang).
package histogram

import (
	"iter"
	"math"
	"sync/atomic"
	"time"
)

// chunkSize is how many cells are allocated together: about two octaves of the Standard
// layout, because the latencies of one pair of workloads lie close together.
const chunkSize = 16

type chunk [chunkSize]atomic.Uint64

// Histogram counts latencies. The zero value is empty and of the Standard layout. Observe, Add
// and the reading methods may be called concurrently, but a reader does not see one moment:
// the counts of several buckets are read one after the other. What Unpacked returned is for
// one goroutine as soon as it is changed. A Histogram must not be copied.
type Histogram struct{ counts atomic.Pointer[counts] }

// counts is what a Histogram has counted: packed, or in chunks. What is packed is not changed,
// so that histograms can share it.
type counts struct {
	layout *Layout
	chunks []atomic.Pointer[chunk] // nil: packed
	packed Packed
}

// Init makes an empty Histogram one of another layout than Standard.
func (h *Histogram) Init(l *Layout) { h.counts.Store(l.counts()) }

func (l *Layout) counts() *counts {
	return &counts{layout: l, chunks: make([]atomic.Pointer[chunk], (len(l.upper)+chunkSize-1)/chunkSize)}
}

// open returns counts that can be changed.
func (h *Histogram) open() *counts {
	c := h.counts.Load()
	switch {
	case c == nil:
		h.counts.CompareAndSwap(nil, Standard.counts())
		return h.counts.Load()
	case c.chunks == nil:
		wide := c.layout.counts()
		for bucket, n := range c.packed.buckets() {
			wide.cell(int(c.layout.cell[bucket-c.layout.min])).Add(n)
		}
		h.counts.Store(wide)
		return wide
	}
	return c
}

func (c *counts) cell(i int) *atomic.Uint64 {
	at := &c.chunks[i/chunkSize]
	some := at.Load()
	if some == nil {
		at.CompareAndSwap(nil, new(chunk))
		some = at.Load()
	}
	return &some[i%chunkSize]
}

// Observe counts a latency. It allocates at most once for each chunk of the Histogram, and
// twice at the first one.
func (h *Histogram) Observe(d time.Duration) {
	c := h.open()
	c.cell(c.layout.find(d)).Add(1)
}

// Add counts n latencies in a bucket of the layout. A bucket outside the range is moved into
// it.
func (h *Histogram) Add(bucket int, n uint64) {
	c := h.open()
	bucket = min(max(bucket, c.layout.min), c.layout.max)
	c.cell(int(c.layout.cell[bucket-c.layout.min])).Add(n)
}

// Merge adds the counts of o, which has the same layout.
func (h *Histogram) Merge(o *Histogram) {
	from := o.counts.Load()
	switch {
	case from == nil:
	case from.chunks == nil && h.counts.Load() == nil:
		h.counts.Store(from)
	case from.chunks == nil:
		for bucket, n := range from.packed.buckets() {
			h.Add(bucket, n)
		}
	default:
		if h.counts.Load() == nil {
			h.counts.CompareAndSwap(nil, from.layout.counts())
		}
		to := h.open()
		for i := range from.cells(load) {
			to.cell(i.at).Add(i.n)
		}
	}
}

// Buckets yields the buckets that are not empty, in ascending order, with their counts.
func (h *Histogram) Buckets() iter.Seq2[int, uint64] { return h.buckets(load) }

// Drain yields what Buckets yields, and takes it out of the Histogram. A latency that is
// counted meanwhile is either in what is yielded or stays.
func (h *Histogram) Drain() iter.Seq2[int, uint64] {
	return h.buckets(func(n *atomic.Uint64) uint64 {
		if n.Load() == 0 {
			return 0
		}
		return n.Swap(0)
	})
}

func load(n *atomic.Uint64) uint64 { return n.Load() }

func (h *Histogram) buckets(get func(*atomic.Uint64) uint64) iter.Seq2[int, uint64] {
	c := h.counts.Load()
	switch {
	case c == nil:
		return func(func(int, uint64) bool) {}
	case c.chunks == nil:
		return c.packed.buckets()
	}
	return func(yield func(int, uint64) bool) {
		var bucket int
		var total uint64 // of the cells of bucket
		for cell := range c.cells(get) {
			if next := int(c.layout.bucket[cell.at]); next != bucket || total == 0 {
				if total > 0 && !yield(bucket, total) {
					return
				}
				bucket, total = next, 0
			}
			total += cell.n
		}
		if total > 0 {
			yield(bucket, total)
		}
	}
}

// filled is a cell that is not empty.
type filled struct {
	at int
	n  uint64
}

// cells yields the cells that are not empty, in ascending order.
func (c *counts) cells(get func(*atomic.Uint64) uint64) iter.Seq[filled] {
	return func(yield func(filled) bool) {
		for i := range c.chunks {
			some := c.chunks[i].Load()
			if some == nil {
				continue
			}
			for j := range some {
				if n := get(&some[j]); n > 0 && !yield(filled{i*chunkSize + j, n}) {
					return
				}
			}
		}
	}
}

// First returns the lowest bucket that is not empty, 0 for an empty Histogram.
func (h *Histogram) First() (first int) {
	h.Buckets()(func(bucket int, _ uint64) bool {
		first = bucket
		return false
	})
	return first
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
			return h.counts.Load().layout.middle(bucket)
		}
		last = bucket
	}
	if total == 0 {
		return 0
	}
	return h.counts.Load().layout.middle(last)
}

// Max returns the upper bound of the highest bucket that is not empty, 0 for an empty
// Histogram.
func (h *Histogram) Max() (d time.Duration) {
	for bucket := range h.Buckets() {
		d = h.counts.Load().layout.UpperBound(bucket)
	}
	return d
}

// Cumulative adds to each of counts how many latencies are at most the bound of the same
// index of Linkerd, and returns the number of all. The Histogram has the Standard layout.
func (h *Histogram) Cumulative(counts *[len(Linkerd)]uint64) (total uint64) {
	c, i := h.open(), 0
	for cell := range c.cells(load) {
		for i < len(Linkerd) && c.layout.upper[cell.at] > int64(Linkerd[i]*1e6) {
			counts[i] += total
			i++
		}
		total += cell.n
	}
	for ; i < len(Linkerd); i++ {
		counts[i] += total
	}
	return total
}

// Size returns the memory that the Histogram has allocated, in bytes.
func (h *Histogram) Size() (total int) {
	c := h.counts.Load()
	if c == nil {
		return 0
	}
	total = 64 + 8*len(c.chunks) + len(c.packed.data)
	for i := range c.chunks {
		if c.chunks[i].Load() != nil {
			total += 8 * chunkSize
		}
	}
	return total
}
