package connections

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/underlane/underlane/pkg/tap"
)

// slowRead is more than the work that is done in one piece.
const slowRead = 300 * time.Microsecond

// slow is a connection whose bytes take a while to read.
type slow struct{ fake }

func (s *slow) Bytes() (read, written uint64) {
	time.Sleep(slowRead)
	return s.fake.Bytes()
}

// TestGrowRests: a look at many connections is done in small pieces, with rests between them.
func TestGrowRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table, _, emit := newTable(time.Now(), nil)
		const conns = 20
		for range conns {
			emit(tap.Event{Kind: tap.ConnOpen, Live: &slow{}, Time: time.Now(), TLS: tap.TLSTrue})
		}
		began := time.Now()
		table.grow(t.Context(), began, 1)
		if got, want := time.Since(began), conns*(slowRead+time.Millisecond); got != want {
			t.Errorf("the look took %v, want %v", got, want)
		}
	})
}
