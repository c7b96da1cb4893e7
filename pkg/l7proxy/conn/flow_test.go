package conn

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestFlow: a direction has a small buffer until a read fills it, a bulk buffer when reads
// fill a whole one, and a small one again when reads are small for long.
func TestFlow(t *testing.T) {
	f := flow{size: smallSize}
	f.resume()
	var got []int
	read := func(n int) {
		f.fit(n)
		got = append(got, len(*f.buf))
	}
	for _, n := range []int{1, smallSize - 1, smallSize, 10_000, 1} {
		read(n)
	}
	for range smallAfter {
		f.fit(1)
	}
	read(1)
	read(smallSize)
	read(BufferSize)
	read(1)
	want := []int{smallSize, smallSize, BufferSize, BufferSize, BufferSize, smallSize, BufferSize, bulkSize, bulkSize}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("sizes of the buffer (-want +got):\n%s", diff)
	}
}
