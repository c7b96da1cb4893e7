package monotime

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// TestTime: a time is what the clocks have shown, also long after the last reading of the wall
// clock, and inside a bubble of synctest and after it.
func TestTime(t *testing.T) {
	// near compares by the wall clock, too (Round strips the other reading), which may be slewed.
	near := func(t *testing.T, of string, got, want time.Time) {
		t.Helper()
		const slack = 10 * time.Millisecond
		if d := got.Sub(want).Abs(); d > slack {
			t.Errorf("%s: got %v, want %v", of, got, want)
		}
		if d := got.Round(0).Sub(want.Round(0)).Abs(); d > slack {
			t.Errorf("%s, by the wall clock: got %v, want %v", of, got, want)
		}
	}
	all := func(t *testing.T) {
		for _, pause := range []time.Duration{0, 0, 2 * readEvery} {
			time.Sleep(pause)
			at := Now()
			near(t, fmt.Sprint("after ", pause), Time(at), time.Now())
		}
		near(t, "half an hour ago", Time(Now()-longAgo/2), time.Now().Add(-longAgo/2))
		near(t, "two hours ago", Time(Now()-2*longAgo), time.Now().Add(-2*longAgo))
	}
	t.Run("first", all)
	t.Run("bubble", func(t *testing.T) { synctest.Test(t, all) })
	t.Run("after the bubble", all)
}

func TestTimeDoesNotAllocate(t *testing.T) {
	if n := testing.AllocsPerRun(1000, func() { _ = Time(Now()) }); n > 0.1 {
		t.Errorf("%v allocations, want none", n)
	}
}

func ExampleTime() {
	began := Now()
	later := began + 3*time.Second
	fmt.Println(Time(later).Sub(Time(began)))
	// Output: 3s
}

func BenchmarkNow(b *testing.B) {
	for b.Loop() {
		Now()
	}
}

func BenchmarkTime(b *testing.B) {
	at := Now()
	for b.Loop() {
		Time(at)
	}
}

func BenchmarkTimeNow(b *testing.B) {
	for b.Loop() {
		time.Now()
	}
}
