package client

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// TestStaleKeys: however many tokens come, few sources are reported, and rarely.
func TestStaleKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStaleKeys()
		for range 1000 {
			s.add("a")
		}
		<-s.wake
		if got := s.take(); !slices.Equal(got, []string{"a"}) {
			t.Errorf("got %q", got)
		}
		for i := range 1000 {
			s.add(fmt.Sprint(i))
		}
		time.Sleep(staleEvery - time.Second)
		select {
		case <-s.wake:
			t.Error("a second report before its time")
		default:
		}
		<-s.wake
		if got := s.take(); len(got) != staleMost {
			t.Errorf("%d sources, want %d", len(got), staleMost)
		}
		time.Sleep(2 * staleEvery)
		if len(s.wake) > 0 {
			t.Error("a report of nothing")
		}
	})
}
