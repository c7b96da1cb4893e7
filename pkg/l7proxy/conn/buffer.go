package conn

import "sync"

// BufferSize is the size of the buffers that bytes in flight lie in.
const BufferSize = 32 << 10

var buffers = sync.Pool{New: func() any { b := make([]byte, BufferSize); return &b }}

// GetBuffer takes a buffer of BufferSize bytes.
func GetBuffer() *[]byte { return buffers.Get().(*[]byte) }

// PutBuffer gives a buffer back; one that was made bigger for a large head is
// left to the collector, so that all buffers are alike.
func PutBuffer(b *[]byte) {
	if len(*b) == BufferSize {
		buffers.Put(b)
	}
}

// A direction that fills its buffer is bulk: it gets a buffer of what the network
// takes at once, four whole records of TLS.
const (
	bulkSize = 64 << 10
	bulkFrom = 8 << 10 // a read of so much is likely to be followed by more
)

var bulks = sync.Pool{New: func() any { b := make([]byte, bulkSize); return &b }}

// putBulk gives a buffer back, of either size.
func putBulk(b *[]byte) {
	if len(*b) == bulkSize {
		bulks.Put(b)
		return
	}
	PutBuffer(b)
}
