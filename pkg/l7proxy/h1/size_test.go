package h1

import (
	"testing"
	"unsafe"
)

// TestSessionSize: a session is allocated for each connection. Its class of the Go runtime's
// sizes has seven objects to a span; the next one, 4,096 bytes, has two, and the runtime
// fetches spans under a lock.
func TestSessionSize(t *testing.T) {
	if size := unsafe.Sizeof(session{}); size > 3456 {
		t.Errorf("got a session of %d bytes, want at most 3456", size)
	}
}
