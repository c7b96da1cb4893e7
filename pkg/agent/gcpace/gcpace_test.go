package gcpace

import (
	"os"
	"runtime"
	"runtime/debug"
	"testing"
)

func TestPercent(t *testing.T) {
	const mega = 1 << 20
	for _, tc := range []struct {
		size uint64
		room int
		want int
	}{
		{size: 5 * mega, room: 64 * mega, want: 800},
		{size: 5 * mega, room: 16 * mega, want: 200},
		{size: 1, room: 64 * mega, want: most},
		{size: 0, room: 64 * mega, want: most},
		{size: 32 * mega, room: 64 * mega, want: 200},
		{size: 33 * mega, room: 64 * mega, want: 100},
		{size: 1 << 40, room: 64 * mega, want: 100},
	} {
		if got := percentFor(tc.size, tc.room); got != tc.want {
			t.Errorf("%d bytes with room for %d: GOGC is %d, want %d", tc.size, tc.room, got, tc.want)
		}
	}
}

var sink []byte

// collections counts the collections while so many bytes of garbage are made.
func collections(bytes int) int {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for n := 0; n < bytes; n += 16 << 10 {
		sink = make([]byte, 16<<10)
	}
	runtime.ReadMemStats(&after)
	return int(after.NumGC - before.NumGC)
}

// TestSet: with contention there are fewer collections, and afterwards as many as before. The
// live heap is that of an agent with little to do: below 4 MB GOGC is at its most, and room is
// left.
func TestSet(t *testing.T) {
	if _, set := os.LookupEnv("GOGC"); set {
		os.Unsetenv("GOGC")
	}
	defer debug.SetGCPercent(debug.SetGCPercent(usual))
	const garbage = 256 << 20
	live := make([]byte, 5<<20)
	defer runtime.KeepAlive(live)
	p := New(Room)
	calm := collections(garbage)
	runtime.GC() // what was made while the last collection marked counts as live
	p.Set(true)
	contended := collections(garbage)
	p.Set(false)
	again := collections(garbage)
	t.Logf("%d collections, %d with contention, then %d", calm, contended, again)
	if 3*contended > 2*calm || 3*contended > 2*again { // how many they are differs, because marking takes time
		t.Errorf("%d collections, %d with contention, then %d", calm, contended, again)
	}
}

// TestOwnGOGC: a GOGC in the environment stays.
func TestOwnGOGC(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(50))
	t.Setenv("GOGC", "50")
	p := New(Room)
	p.Set(true)
	p.Set(false)
	if got := debug.SetGCPercent(50); got != 50 {
		t.Errorf("GOGC is %d", got)
	}
}
