package upstream

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestStallDetector(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s stallDetector
		began := time.Now()
		time.Sleep(time.Hour)
		if s.since(began) {
			t.Error("nobody ticks, and it stood still")
		}
		began = time.Now()
		for range 10 {
			s.tick()
			time.Sleep(WatchEvery)
		}
		if s.since(began) {
			t.Error("it ran, and stood still")
		}
		time.Sleep(3 * time.Second)
		if !s.since(began) { // before the next tick
			t.Error("it stood still, and ran")
		}
		s.tick()
		time.Sleep(WatchEvery)
		s.tick()
		if !s.since(began) {
			t.Error("it stood still, and that is forgotten")
		}
		if s.since(time.Now()) {
			t.Error("it has stood still since just now")
		}
	})
}
