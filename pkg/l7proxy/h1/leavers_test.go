package h1

import (
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/request"
)

// TestLeavers: however many clients hang up at once, a few goroutines pass it on, and they
// end when that is done.
func TestLeavers(t *testing.T) {
	var l leavers
	state := func() (workers, waiting int) {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.workers, len(l.waiting)
	}
	await := func(workers, waiting int) {
		t.Helper()
		for end := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
			w, n := state()
			if w == workers && n == waiting {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%d goroutines and %d clients that wait, want %d and %d", w, n, workers, waiting)
			}
		}
	}
	var slow [leaversAtOnce]*link
	for i := range slow {
		slow[i] = &link{s: new(request.Session)}
		slow[i].phase.mu.Lock()
		l.add(slow[i])
	}
	await(leaversAtOnce, 0)
	for range 100 {
		l.add(&link{s: new(request.Session)})
	}
	await(leaversAtOnce, 100)
	slow[0].phase.mu.Unlock()
	await(leaversAtOnce-1, 0)
	for _, d := range slow[1:] {
		d.phase.mu.Unlock()
	}
	await(0, 0)
}
