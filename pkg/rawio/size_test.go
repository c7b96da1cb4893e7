package rawio

import (
	"testing"
	"unsafe"
)

// TestConnSize: a Conn is allocated for each connection, in the Go runtime's class of 480
// bytes. The next class has 512, a power of two: the same fields of all connections then have
// places in a few sets of the processor's caches only, and put each other out of them.
func TestConnSize(t *testing.T) {
	if size := unsafe.Sizeof(Conn{}); size > 480 {
		t.Errorf("got a Conn of %d bytes, want at most 480", size)
	}
}
