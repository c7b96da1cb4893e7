package timeslice

import (
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestPulse: a Pulse beats on each processor while it is on, and Set leaves its slices.
func TestPulse(t *testing.T) {
	p := NewPulse(slog.New(slog.DiscardHandler))
	if len(p.cpus) == 0 {
		t.Log("the kernel ticks as often, or there are too many processors")
		return
	}
	counts := func() (all []uint64) {
		for _, b := range p.beats {
			all = append(all, atomic.LoadUint64(&b.count))
		}
		return all
	}
	eventually := func(what string, is func() bool) {
		t.Helper()
		for limit := time.Now().Add(time.Minute); !is(); time.Sleep(time.Millisecond) {
			if time.Now().After(limit) {
				t.Fatalf("not within a minute: %s", what)
			}
		}
	}
	beats := func() {
		t.Helper()
		from := counts()
		eventually("a beat on each processor", func() bool {
			for i, n := range counts() {
				if n == from[i] {
					return false
				}
			}
			return true
		})
	}
	threads := func() (n int) {
		for _, got := range slices(t) {
			if got == pulseSlice {
				n++
			}
		}
		return n
	}
	p.Set(true)
	beats()
	if err := Set(Short); err != nil {
		t.Fatal(err)
	}
	if got := threads(); got != len(p.cpus) {
		t.Errorf("got %d threads with a slice of %v, want one for each of %d processors", got, pulseSlice, len(p.cpus))
	}
	p.Set(false)
	eventually("a time without beats", func() bool {
		before := counts()
		time.Sleep(20 * period)
		return cmp.Equal(before, counts())
	})
	p.Set(true)
	beats()
	p.Close()
	eventually("no threads", func() bool { return threads() == 0 })
	if err := Set(0); err != nil {
		t.Fatal(err)
	}
}
