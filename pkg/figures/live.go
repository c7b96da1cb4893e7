package figures

import (
	"encoding/binary"
	"math/bits"
	"sync/atomic"
	"time"

	"github.com/underlane/underlane/pkg/histogram"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

// live counts the window that is being filled. It is changed by atomic operations only.
// What few pairs of workloads have is allocated at its first use.
type live struct {
	success, retries atomic.Uint64
	latency          histogram.Histogram
	parts            [NumParts]atomic.Int64 // nanoseconds
	rare             atomic.Pointer[liveRare]
	conns            atomic.Pointer[liveConns]
}

// liveRare counts failures, and what the server's policy has refused, and what it asks to
// report.
type liveRare struct {
	failures        [mesh.NumReasons]atomic.Uint32 // enough for the window: most edges have some
	denied, audited atomic.Uint64
}

// liveConns counts connections. open is not reset when a window ends.
type liveConns struct {
	opened, closed, failed atomic.Uint64
	open                   atomic.Int64
	read, written          atomic.Uint64
	srtt, minRTT           atomic.Int64 // nanoseconds
	srtts, retransmits     atomic.Uint64
}

// count counts an event. Events of other kinds than these have no figures.
func (l *live) count(e *tap.Event) {
	l.policy(e)
	switch e.Kind {
	case tap.ResponseEnd:
		l.request(e)
	case tap.ConnOpen, tap.LegOpen:
		c := lazily(&l.conns)
		c.opened.Add(1)
		c.open.Add(1)
	case tap.ConnClose, tap.LegClose:
		lazily(&l.conns).close(e)
	case tap.Grown:
		lazily(&l.conns).carry(e)
	}
}

// policy counts the end of what was refused, and the end of a request or the beginning of a
// connection that is to be reported.
func (l *live) policy(e *tap.Event) {
	switch ends := e.Kind == tap.ResponseEnd; {
	case (ends || e.Kind == tap.ConnClose && e.Duration <= 0) && (e.Reason == mesh.ReasonPolicyDenied || e.Reason == mesh.ReasonNoIdentity):
		lazily(&l.rare).denied.Add(1)
	case (ends || e.Kind == tap.ConnOpen) && e.Judged != nil && e.Judged.Finding.Audited():
		lazily(&l.rare).audited.Add(1)
	}
}

func (l *live) request(e *tap.Event) {
	if e.Success() {
		l.success.Add(1)
	} else {
		lazily(&l.rare).failures[e.Reason].Add(1)
	}
	if e.Retries > 0 {
		l.retries.Add(uint64(e.Retries))
	}
	l.latency.Observe(e.Latency)
	for i, d := range [NumParts]time.Duration{
		Queue: e.Split.Queue, Connect: e.Split.Connect, TLS: e.Split.TLS, FirstByte: e.Split.FirstByte, Body: e.Split.Body,
	} {
		if d > 0 {
			l.parts[i].Add(int64(d))
		}
	}
}

func (c *liveConns) close(e *tap.Event) {
	if e.Duration <= 0 { // the attempt failed: there was no connection
		c.failed.Add(1)
		return
	}
	c.closed.Add(1)
	c.carry(e)
	for { // not below zero: the connection may be older than this agent
		n := c.open.Load()
		if n <= 0 || c.open.CompareAndSwap(n, n-1) {
			return
		}
	}
}

// carry counts what a connection has carried and what was not counted before.
func (c *liveConns) carry(e *tap.Event) {
	c.read.Add(e.ReadBytes - min(e.Counted.ReadBytes, e.ReadBytes))
	c.written.Add(e.WriteBytes - min(e.Counted.WriteBytes, e.WriteBytes))
	c.retransmits.Add(uint64(e.Retransmits - min(e.Counted.Retransmits, e.Retransmits)))
	if e.SRTT > 0 {
		c.srtt.Add(int64(e.SRTT))
		c.minRTT.Add(int64(e.MinRTT))
		c.srtts.Add(1)
	}
}

// lazily returns what p points to, and allocates it if p is nil.
func lazily[T any](p *atomic.Pointer[T]) *T {
	v := p.Load()
	if v == nil {
		p.CompareAndSwap(nil, new(T))
		v = p.Load()
	}
	return v
}

// The encoding of a window of one pair is a mask that says what follows, and that in the
// order of the bits. Numbers are varints, times are microseconds. The mask is one byte,
// or two if the upper bit of the first is set.
const (
	hasFailures = 1 << iota // their number, and for each a reason and a count
	hasLatency
	hasParts   // a mask of the parts, and for each a short
	hasSuccess // absent: all latencies but those of the failures
	hasRetries
	hasOpen
	hasOpened
	hasMore // the second byte of the mask
	hasClosed
	hasFailed
	hasBytes // read, written
	hasSRTT  // sum, connections
	hasRetransmits
	hasMinRTT // sum; of the connections of hasSRTT
	hasDenied
	hasAudited
)

// encode appends what was counted, nothing if nothing was. With drain the counters, other
// than the one of open connections, begin anew.
func (l *live) encode(b []byte, drain bool) []byte {
	w := writer{buf: append(b, 0, 0), drain: drain}
	var failed uint64
	rare := l.rare.Load()
	if rare != nil {
		failed = w.failures(&rare.failures)
	}
	latencies := w.latency(&l.latency)
	w.parts(&l.parts)
	if success := w.get(&l.success); success+failed != latencies {
		w.put(hasSuccess, success)
	}
	w.number(hasRetries, &l.retries)
	if c := l.conns.Load(); c != nil {
		w.conns(c)
	}
	if rare != nil {
		w.number(hasDenied, &rare.denied)
		w.number(hasAudited, &rare.audited)
	}
	if w.mask == 0 {
		return b
	}
	if w.mask > 0xff {
		w.buf[len(b)], w.buf[len(b)+1] = byte(w.mask|hasMore), byte(w.mask>>8)
		return w.buf
	}
	w.buf[len(b)] = byte(w.mask)
	return append(w.buf[:len(b)+1], w.buf[len(b)+2:]...)
}

func (w *writer) conns(c *liveConns) {
	if n := c.open.Load(); n > 0 {
		w.put(hasOpen, uint64(n))
	}
	w.number(hasOpened, &c.opened)
	w.number(hasClosed, &c.closed)
	w.number(hasFailed, &c.failed)
	if read, written := w.get(&c.read), w.get(&c.written); read+written > 0 {
		w.put(hasBytes, read, written)
	}
	if srtt, n := w.time(&c.srtt), w.get(&c.srtts); n > 0 {
		w.put(hasSRTT, srtt, n)
	}
	w.number(hasRetransmits, &c.retransmits)
	if minRTT := w.time(&c.minRTT); minRTT > 0 {
		w.put(hasMinRTT, minRTT)
	}
}

// writer writes the encoding.
type writer struct {
	buf   []byte // begins with room for the mask
	mask  uint16
	drain bool
}

func (w *writer) get(n *atomic.Uint64) uint64 {
	if v := n.Load(); v == 0 || !w.drain {
		return v
	}
	return n.Swap(0)
}

// time returns a time in microseconds.
func (w *writer) time(n *atomic.Int64) uint64 {
	v := n.Load()
	if w.drain && v != 0 {
		v = n.Swap(0)
	}
	return uint64(max(0, time.Duration(v).Microseconds()))
}

func (w *writer) put(bit uint16, values ...uint64) {
	w.mask |= bit
	for _, v := range values {
		w.buf = binary.AppendUvarint(w.buf, v)
	}
}

func (w *writer) number(bit uint16, n *atomic.Uint64) {
	if v := w.get(n); v > 0 {
		w.put(bit, v)
	}
}

// failures returns the number of all failures.
func (w *writer) failures(f *[mesh.NumReasons]atomic.Uint32) (total uint64) {
	var counts [mesh.NumReasons]uint64
	reasons := uint64(0)
	for i := range f {
		n := f[i].Load()
		if n > 0 && w.drain {
			n = f[i].Swap(0)
		}
		if counts[i] = uint64(n); n > 0 {
			total += counts[i]
			reasons++
		}
	}
	if reasons == 0 {
		return 0
	}
	w.put(hasFailures, reasons)
	for reason, n := range counts {
		if n > 0 {
			w.put(hasFailures, uint64(reason), n)
		}
	}
	return total
}

func (w *writer) parts(p *[NumParts]atomic.Int64) {
	at := len(w.buf)
	w.buf = append(w.buf, 0)
	for i := range p {
		if v := w.time(&p[i]); v > 0 {
			w.buf[at] |= 1 << i
			w.buf = binary.LittleEndian.AppendUint16(w.buf, short(v))
		}
	}
	if w.buf[at] == 0 {
		w.buf = w.buf[:at]
		return
	}
	w.put(hasParts)
}

// short is a number in 16 bits, rounded to 11 of them: the lower 11 bits, shifted by the
// upper 5. It is off by at most 0.05 %.
func short(v uint64) uint16 {
	const most = 1<<11 - 1
	v = min(v, most<<31)
	shift := max(0, bits.Len64(v)-11)
	if shift > 0 {
		v += 1 << (shift - 1)
		shift = max(0, bits.Len64(v)-11)
	}
	return uint16(min(shift, 31))<<11 | uint16(min(v>>shift, most))
}

func long(v uint16) uint64 { return uint64(v&(1<<11-1)) << (v >> 11) }

// latency returns the number of all latencies. Their encoding is the number of the buckets
// that are not empty, and that of histogram.Append.
func (w *writer) latency(h *histogram.Histogram) (total uint64) {
	number := len(w.buf)
	each := h.Buckets()
	if w.drain {
		each = h.Drain()
	}
	var filled int
	if w.buf, filled, total = histogram.Append(append(w.buf, 0), histogram.MinBucket, each); filled == 0 {
		w.buf = w.buf[:number]
		return 0
	}
	w.buf[number] = byte(filled)
	w.put(hasLatency)
	return total
}
