package conn

import (
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

// TestEnds: what becomes ready after many connections have ended waits for few of their ends, and
// all of them are done.
func TestEnds(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const many = 64
	var e ends
	var done, before atomic.Int64
	all, quiet := make(chan struct{}), make(chan struct{})
	for range many {
		e.add(func() {
			switch done.Add(1) {
			case 1:
				go func() {
					before.Store(done.Load())
					close(quiet)
				}()
				go func() {}() // the one that was made last runs next
			case many:
				close(all)
			}
		})
	}
	<-quiet
	<-all
	if n := before.Load(); n > 2*endsInRow {
		t.Errorf("%d ends were done first, want %d", n, endsInRow)
	}
	for limit := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		e.mu.Lock()
		begins := e.begins
		e.mu.Unlock()
		if !begins {
			return
		}
		if time.Now().After(limit) {
			t.Fatal("the goroutine that begins the ends does not end")
		}
	}
}
