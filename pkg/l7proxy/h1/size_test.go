package h1

import (
	"runtime"
	"testing"
	"unsafe"
)

// TestSessionSize: a session is allocated for each connection. Its class of the Go runtime's
// sizes has seven objects to a span; the next one, 4,096 bytes, has two, and the runtime
// fetches spans under a lock. The runtime puts a header of 8 bytes before an object of more than
// 512 bytes that has pointers, so the size of the type alone does not tell the class.
func TestSessionSize(t *testing.T) {
	const sessions, class = 1000, 3456
	kept := make([]*session, sessions)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := range kept {
		kept[i] = new(session)
	}
	runtime.ReadMemStats(&after)
	runtime.KeepAlive(kept)
	if each := float64(after.TotalAlloc-before.TotalAlloc) / sessions; each > class+16 { // other goroutines allocate, too
		t.Errorf("a session of %d bytes takes %.0f, want at most %d", unsafe.Sizeof(session{}), each, class)
	}
}
