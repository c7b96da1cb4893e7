package rawio

import (
	"sync"
	"sync/atomic"
	"testing"
)

// TestOnClose: the function is called once, however many close the connection.
func TestOnClose(t *testing.T) {
	client, _ := pair(t, "127.0.0.1:0")
	var calls atomic.Int64
	client.OnClose(func() { calls.Add(1) })
	if calls.Load() != 0 {
		t.Fatal("called before the connection is closed")
	}
	var closers sync.WaitGroup
	for range 8 {
		closers.Go(func() { client.Close() })
	}
	closers.Wait()
	if got := calls.Load(); got != 1 {
		t.Errorf("called %d times, want once", got)
	}
}
