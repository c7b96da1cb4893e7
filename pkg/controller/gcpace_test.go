package controller

import "testing"

func TestPace(t *testing.T) {
	const mb = 1 << 20
	for what, tc := range map[string]struct {
		m     memory
		now   int
		share float64
		want  int
	}{
		"little to do":              {memory{live: 20 * mb}, 50, 0.001, 50},
		"much to do":                {memory{live: 100 * mb}, 50, 0.1, 75},
		"still much to do":          {memory{live: 100 * mb}, 75, 0.05, 112},
		"enough":                    {memory{live: 100 * mb}, 112, 0.03, 112},
		"twice as much and no more": {memory{live: 100 * mb}, 180, 0.1, 200},
		"little to do again":        {memory{live: 100 * mb}, 150, 0.005, 100},
		"not beyond the limit":      {memory{live: 500 * mb, beside: 100 * mb}, 100, 0.1, 74},
		"near the limit":            {memory{live: 700 * mb, beside: 200 * mb}, 100, 0.1, 50},
		"beyond the limit":          {memory{live: 1000 * mb, beside: 200 * mb}, 100, 0.001, 50},
		"nothing was collected yet": {memory{}, 50, 0, 50},
	} {
		if got := tc.m.pace(tc.now, tc.share, 1024*mb); got != tc.want {
			t.Errorf("%s: %d, want %d", what, got, tc.want)
		}
	}
	for what, tc := range map[string]struct {
		m    memory
		want uint64
	}{
		"no slots":   {memory{live: 500 * mb, beside: 100 * mb}, 1000 * mb},
		"some slots": {memory{live: 500 * mb, beside: 100 * mb, slots: 50 * mb}, 1035 * mb},
		"many":       {memory{live: 500 * mb, beside: 100 * mb, slots: 400 * mb}, 1080 * mb},
	} {
		if got := tc.m.limit(1000 * mb); got != tc.want {
			t.Errorf("%s: the limit is %d MB, want %d", what, got/mb, tc.want/mb)
		}
	}
	m := readMemory()
	if m.beside == 0 || m.beside > 1<<32 {
		t.Errorf("%d bytes beside the heap", m.beside)
	}
}

// TestLoad: what is live grows until everything is read.
func TestLoad(t *testing.T) {
	const mb = 1 << 20
	for _, tc := range []struct {
		before, now uint64
		want        bool
	}{{0, 10, true}, {100, 104, false}, {100, 106, true}, {100, 60, false}} {
		if got := (memory{live: tc.now * mb}).grows(memory{live: tc.before * mb}); got != tc.want {
			t.Errorf("from %d to %d MB: %v", tc.before, tc.now, got)
		}
	}
}
