package rawio

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"
)

// TestOnClose: the function is called once, however many close the connection.
func TestOnClose(t *testing.T) {
	client, _ := pair(t, "127.0.0.1:0")
	var calls atomic.Int64
	var order []int
	client.OnClose(func() { order = append(order, 1) })
	client.OnClose(func() { order = append(order, 2) })
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
	if !slices.Equal(order, []int{1, 2}) {
		t.Errorf("called in the order %v, want 1, 2", order)
	}
	client.OnClose(func() { calls.Add(1) })
	if got := calls.Load(); got != 2 {
		t.Errorf("a function that comes after Close: %d calls, want 2", got)
	}
}
