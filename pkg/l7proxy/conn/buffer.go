package conn

import "sync"

// BufferSize is the size in bytes of the buffers for bytes in flight.
const BufferSize = 32 << 10

var buffers = sync.Pool{New: func() any { b := make([]byte, BufferSize); return &b }}

// GetBuffer returns a buffer of BufferSize bytes. PutBuffer gives it back.
func GetBuffer() *[]byte { return buffers.Get().(*[]byte) }

// PutBuffer gives a buffer back. A buffer that was enlarged for a large head is left to
// the garbage collector, so that all pooled buffers have the same size.
func PutBuffer(b *[]byte) {
	switch len(*b) {
	case BufferSize:
		buffers.Put(b)
	case HeadBufferSize:
		headBuffers.Put(b)
	}
}

// HeadBufferSize is the size in bytes of the buffers for heads that are not small.
const HeadBufferSize = 4 << 10

var headBuffers = sync.Pool{New: func() any { b := make([]byte, HeadBufferSize); return &b }}

// GetHeadBuffer returns a buffer of HeadBufferSize bytes. PutBuffer gives it back.
func GetHeadBuffer() *[]byte { return headBuffers.Get().(*[]byte) }

// A direction that fills its buffer gets a larger one, of the size that the network
// accepts in one write: four full TLS records.
const (
	bulkSize = 64 << 10
	bulkFrom = 8 << 10 // after a read of this many bytes more are likely to follow
)

// A direction of opaque bytes whose reads are small has a small buffer: most connections of
// most protocols are idle, or carry little at a time.
const (
	smallSize  = 4 << 10
	smallAfter = 64 // reads in a row that would have fitted, before a larger buffer is given back
)

var smalls = sync.Pool{New: func() any { b := make([]byte, smallSize); return &b }}

var bulks = sync.Pool{New: func() any { b := make([]byte, bulkSize); return &b }}

// putAny gives back a buffer of any of the sizes.
func putAny(b *[]byte) {
	switch len(*b) {
	case bulkSize:
		bulks.Put(b)
	case smallSize:
		smalls.Put(b)
	default:
		PutBuffer(b)
	}
}

// getAny returns a buffer of one of the sizes.
func getAny(size int) *[]byte {
	switch size {
	case bulkSize:
		return bulks.Get().(*[]byte)
	case smallSize:
		return smalls.Get().(*[]byte)
	default:
		return GetBuffer()
	}
}

// flow has the buffer of one direction of opaque bytes, of a size that its reads need.
type flow struct {
	buf   *[]byte
	size  int // of buf
	small int // reads in a row that a small buffer would have held
}

// yield gives the buffer back until resume, if there is one.
func (f *flow) yield() {
	if f.buf != nil {
		putAny(f.buf)
		f.buf = nil
	}
}

func (f *flow) resume() { f.buf = getAny(f.size) }

// fit changes the buffer after a read of n bytes. It reports whether that is a bulk buffer
// from now on, which stays.
func (f *flow) fit(n int) (bulk bool) {
	if f.small++; n >= smallSize {
		f.small = 0
	}
	switch {
	case n == smallSize && f.size == smallSize:
		f.replace(BufferSize)
	case n == BufferSize && f.size == BufferSize:
		f.replace(bulkSize)
		return true
	case f.size == BufferSize && f.small >= smallAfter:
		f.replace(smallSize)
	}
	return false
}

func (f *flow) replace(size int) {
	putAny(f.buf)
	f.buf, f.size, f.small = getAny(size), size, 0
}
