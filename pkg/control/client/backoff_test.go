package client

import (
	"testing"
	"time"
)

func TestBackoffGrowsToItsLimit(t *testing.T) {
	var b backoff
	for i := range 30 {
		if d := b.next(); d < 25*time.Millisecond || d > 5*time.Second {
			t.Errorf("retry %d after %s", i, d)
		}
	}
	if b.last != 5*time.Second {
		t.Error(b.last)
	}
}

// TestVain: the certificate is given up after some sessions in vain, and not before some time.
func TestVain(t *testing.T) {
	start := time.Now()
	for name, c := range map[string]struct {
		after []time.Duration // of the sessions
		want  bool            // after the last of them
	}{
		"one, later than keepFor":     {[]time.Duration{0, keepFor}, false},
		"many in a short time":        {[]time.Duration{0, 1, 2, 3, 4, 5, keepFor - 1}, false},
		"three, the last one too":     {[]time.Duration{0, 1, keepFor}, true},
		"long after, but only two":    {[]time.Duration{0, 10 * keepFor}, false},
		"the third long after others": {[]time.Duration{0, 1, 10 * keepFor}, true},
	} {
		var v vain
		var got bool
		for _, d := range c.after {
			got = v.enough(start.Add(d))
		}
		if got != c.want {
			t.Errorf("%s: given up: %v, want %v", name, got, c.want)
		}
	}
}
