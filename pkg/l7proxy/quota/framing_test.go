package quota

import (
	"fmt"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
)

// TestFramedIsOfTheSource: the connections of a source share what they may send of framing,
// and wait for each other's turn. Those of another source do not wait, nor does a
// connection that adds none.
func TestFramedIsOfTheSource(t *testing.T) {
	p := &Pods{MaxConns: 1000, MaxBuffered: 1 << 20}
	enter := func(from string) *Usage {
		t.Helper()
		u, err := p.Enter(Key{UID: "server", Direction: mesh.Inbound}, Source{Pod: from}, 0)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	const each = 64 << 10
	now := time.Minute
	var flood []*Usage
	for range 2 * framingBurst / each {
		flood = append(flood, enter("flood"))
	}
	var last time.Duration
	for i, u := range flood {
		got := u.Framed(now, each)
		over := (i+1)*each - framingBurst
		want := max(0, time.Duration(over)*time.Second/framingRate)
		if diff := (got - want).Abs(); diff > time.Millisecond {
			t.Errorf("connection %d: got a wait of %v, want %v", i, got, want)
		}
		last = got
	}
	if got := enter("quiet").Framed(now, each); got != 0 {
		t.Errorf("a connection of another source: got a wait of %v, want 0", got)
	}
	for _, n := range []int{0, -each} {
		if got := flood[0].Framed(now, n); got != 0 {
			t.Errorf("a connection of the source that adds %d bytes: got a wait of %v, want 0", n, got)
		}
	}
	now += last
	if got, want := flood[0].Framed(now, 1), time.Duration(0); got != want {
		t.Errorf("when all have waited, and one has taken back what it added: got a wait of %v, want %v", got, want)
	}
	if n := testing.AllocsPerRun(100, func() { flood[0].Framed(now, 1) }); n != 0 {
		t.Errorf("%v allocations, want 0", fmt.Sprint(n))
	}
	if got := (*Usage)(nil).Framed(now, each); got != 0 {
		t.Errorf("without a usage: got a wait of %v, want 0", got)
	}
}
