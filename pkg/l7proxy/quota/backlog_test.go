package quota

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// Whatever its size, and whichever buffer it lies in, a backlog is what came and
// did not go.
func TestBacklogKeepsItsBytes(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	usage := &Usage{pods: new(Pods), pod: new(pod), party: new(party)}
	for round := range 25 {
		var l Backlog
		var want []byte
		most := []int{100, pendingSmall, pendingMedium, pendingLarge, 2 * pendingLarge}[round%5]
		for range 100 {
			if chunk := rng.IntN(most/4) + 1; len(want)+chunk <= most {
				b := make([]byte, chunk)
				for i := range b {
					b[i] = byte(rng.Uint32())
				}
				l.Add(b)
				want = append(want, b...)
			}
			if n := rng.IntN(len(want) + 1); rng.IntN(2) == 0 {
				l.Shift(n)
				want = want[n:]
			}
			l.Charge(l.Size(), usage)
			if !bytes.Equal(l.Bytes, want) {
				t.Fatalf("round %d: what waits differs at %d bytes", round, len(want))
			}
			size := int64(len(want))
			if l.backing != nil {
				size = int64(cap(*l.backing))
			}
			if held := usage.pod.held.Load(); held != size || held < int64(len(want)) {
				t.Fatalf("round %d: %d bytes are accounted for, want %d for %d bytes", round, held, size, len(want))
			}
			if len(want) == 0 && l.backing != nil {
				t.Fatalf("round %d: nothing waits, and the buffer is kept", round)
			}
		}
		l.Drop()
		l.Charge(0, usage)
		if l.backing != nil || l.Bytes != nil {
			t.Fatal("an empty backlog keeps its buffer")
		}
	}
}
