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
