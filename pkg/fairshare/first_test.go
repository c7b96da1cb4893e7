package fairshare

import (
	"runtime"
	"slices"
	"sync"
	"testing"
)

// TestGoFirst: a task that goes first waits for none of its account that came before it.
func TestGoFirst(t *testing.T) {
	s, holder := held()
	account := s.Account()
	var order []string
	var tasks sync.WaitGroup
	for i, name := range []string{"a", "b", "accept", "c"} {
		tasks.Go(func() {
			var task Task
			task.Charge(account)
			if name == "accept" {
				task.GoFirst()
			}
			task.Resume()
			order = append(order, name) // one slot: one at a time
			task.Pause()
		})
		for waiting := 0; waiting <= i; _, waiting = s.Busy() {
			runtime.Gosched()
		}
	}
	holder.Pause()
	tasks.Wait()
	if want := []string{"accept", "a", "b", "c"}; !slices.Equal(order, want) {
		t.Errorf("got the order %v, want %v", order, want)
	}
}
