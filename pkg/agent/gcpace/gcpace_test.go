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

// TestLook: where there are many collections a second GOGC is larger from then on, and as before
// when the process has little to do again.
func TestLook(t *testing.T) {
	if _, set := os.LookupEnv("GOGC"); set {
		os.Unsetenv("GOGC")
	}
	defer debug.SetGCPercent(debug.SetGCPercent(usual))
	live := make([]byte, 8<<20)
	defer runtime.KeepAlive(live)
	runtime.GC() // and the end of what was before
	p := New(Room)
	// collect makes garbage until there were so many collections.
	collect := func(n uint64) {
		for began := p.newCycles(); ; sink = make([]byte, 16<<10) {
			if began += p.newCycles(); began >= n {
				p.cycles -= began // they are still to be counted
				break
			}
		}
		runtime.GC() // what was made while the last collection marked counts as live
	}
	p.Look(false)
	if p.percent != usual {
		t.Fatalf("GOGC is %d with nothing to do, want %d", p.percent, usual)
	}
	collect(busyCollections)
	if p.Look(false); p.percent <= usual {
		t.Fatalf("GOGC is %d after %d collections, want more than %d", p.percent, busyCollections, usual)
	}
	collect(busyCollections - 1) // as GOGC is larger now, there is as much to do as before
	if p.Look(false); p.percent <= usual {
		t.Errorf("GOGC is %d while there is as much to do, want more than %d", p.percent, usual)
	}
	if p.Look(false); p.percent != usual {
		t.Errorf("GOGC is %d when there is little to do, want %d", p.percent, usual)
	}
}
