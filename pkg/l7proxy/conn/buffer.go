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
	if len(*b) == BufferSize {
		buffers.Put(b)
	}
}

// A direction that fills its buffer gets a larger one, of the size that the network
// accepts in one write: four full TLS records.
const (
	bulkSize = 64 << 10
	bulkFrom = 8 << 10 // after a read of this many bytes more are likely to follow
)

var bulks = sync.Pool{New: func() any { b := make([]byte, bulkSize); return &b }}

// putBulk gives back a buffer of either size.
func putBulk(b *[]byte) {
	if len(*b) == bulkSize {
		bulks.Put(b)
		return
	}
	PutBuffer(b)
}
