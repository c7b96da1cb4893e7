package l7proxy

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// Whatever its size, and whichever buffer it lies in, pending is what came and
// did not go.
func TestPendingKeepsItsBytes(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	session := &Session{use: new(podUse)}
	for round := range 24 {
		p := h2pipe{stream: &h2stream{srv: &h2server{session: session}}}
		var want []byte
		most := []int{100, pendingSmall, pendingLarge, 2 * pendingLarge}[round%4]
		for range 100 {
			if chunk := rng.IntN(most/4) + 1; len(want)+chunk <= most {
				b := make([]byte, chunk)
				for i := range b {
					b[i] = byte(rng.Uint32())
				}
				p.hold(b)
				want = append(want, b...)
			}
			if n := rng.IntN(len(want) + 1); rng.IntN(2) == 0 {
				p.shift(n, nil)
				want = want[n:]
			}
			if !bytes.Equal(p.pending.bytes, want) {
				t.Fatalf("round %d: pending differs at %d bytes", round, len(want))
			}
			if held := session.use.held.Load(); held != int64(len(want)) {
				t.Fatalf("round %d: %d bytes are accounted for, %d wait", round, held, len(want))
			}
			if len(want) == 0 && p.pending.backing != nil {
				t.Fatalf("round %d: nothing is pending, and the buffer is kept", round)
			}
		}
		p.abandon(nil)
		if p.pending.backing != nil || p.pending.bytes != nil {
			t.Fatal("an abandoned pipe keeps its buffer")
		}
	}
}
