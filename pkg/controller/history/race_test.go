package history

import (
	"sync"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
)

// Queries are answered while minutes are added and old ones are joined and dropped.
func TestQueryWhileMinutesAreAdded(t *testing.T) {
	s := NewStore(1 << 20)
	var wg sync.WaitGroup
	done := make(chan struct{})
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					s.Query(Query{Start: epoch.Add(-time.Hour), End: epoch.Add(48 * time.Hour), Step: time.Minute, Group: everything})
				}
			}
		})
	}
	first := minuteOf(epoch)
	for m := first; m < first+300; m++ {
		s.minute(m, edgeOf(key("web", "db", mesh.Outbound), requests(10, 1, time.Millisecond)))
	}
	close(done)
	wg.Wait()
}
