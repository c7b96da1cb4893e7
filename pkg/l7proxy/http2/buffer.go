package http2

import "sync"

// Output buffers have two sizes. A connection has a small one while it has something to
// send. While it sends bodies it has a large one, which fits all that WriteData takes at
// once.
const (
	outputSmall = 32 << 10
	outputLarge = DefaultOutputLimit + 32<<10
)

var (
	smallOutputs = sync.Pool{New: func() any { return new([outputSmall]byte) }}
	largeOutputs = sync.Pool{New: func() any { return new([outputLarge]byte) }}
)

// reserve makes sure that there is a buffer, and that n more bytes fit into it unless
// they exceed the large size.
func (c *base) reserve(n int) {
	switch need := len(c.out) + n; {
	case need <= cap(c.out):
	case need <= outputSmall && cap(c.out) == 0:
		c.out = smallOutputs.Get().(*[outputSmall]byte)[:0]
	case need <= outputLarge:
		large := append(largeOutputs.Get().(*[outputLarge]byte)[:0], c.out...)
		Recycle(c.out)
		c.out = large
	}
}

// Recycle takes back a buffer from TakeOutput, for any Conn to use.
func Recycle(buf []byte) {
	switch {
	case cap(buf) >= outputLarge:
		largeOutputs.Put((*[outputLarge]byte)(buf[:outputLarge]))
	case cap(buf) >= outputSmall:
		smallOutputs.Put((*[outputSmall]byte)(buf[:outputSmall]))
	}
}
