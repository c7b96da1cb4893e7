package rawio

import (
	"testing"
	"unsafe"
)

// TestConnSize: a Conn is allocated for each connection, in the Go runtime's class of 512
// bytes. The next class has 576.
func TestConnSize(t *testing.T) {
	if size := unsafe.Sizeof(Conn{}); size > 512 {
		t.Errorf("got a Conn of %d bytes, want at most 512", size)
	}
}
