package history

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
)

// TestTwoWriters: two replicas that write one file at the same time leave the whole file of
// one of them at each moment, and nothing else.
func TestTwoWriters(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "history")
	// What a writer left that crashed long ago, also of the version before, goes. What one
	// writes at this moment stays.
	for name, age := range map[string]time.Duration{"history.new": time.Hour, "history.new123": time.Hour, "history.new456": 0} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		at := time.Now().Add(-age)
		if err := os.Chtimes(filepath.Join(dir, name), at, at); err != nil {
			t.Fatal(err)
		}
	}
	now := epoch.Add(time.Hour)
	var wg sync.WaitGroup
	for i := range 2 {
		s := NewStore(0)
		for m := range int64(10 + 40*i) { // files of different lengths
			s.minute(minuteOf(epoch)+m, edgeOf(key("web", "db", mesh.Outbound), requests(1, 0, time.Millisecond)))
		}
		wg.Go(func() {
			for range 50 {
				if err := s.Save(path); err != nil {
					t.Error(err)
				}
				read := NewStore(0)
				if err := read.Load(path, now); err != nil {
					t.Error(err)
				}
				if stats := read.Stats(); stats.Until != epoch.Add(10*time.Minute) && stats.Until != epoch.Add(50*time.Minute) {
					t.Errorf("the file ends at %v, want that of one writer", stats.Until)
				}
			}
		})
	}
	wg.Wait()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 2 || entries[0].Name() != "history" || entries[1].Name() != "history.new456" {
		t.Errorf("%v is left, want the file, and the one that may be being written", entries)
	}
}
