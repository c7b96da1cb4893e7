package quota

import (
	"testing"

	"github.com/underlane/underlane/pkg/mesh"
)

// TestWiden: the windows of a source, and of a pod, are wider by a part of what may wait, and
// there is room again when streams have ended.
func TestWiden(t *testing.T) {
	p := &Pods{MaxConns: 100, MaxBuffered: 80}
	var usages []*Usage
	for _, id := range []string{"a", "b", "c"} {
		u, err := p.Enter(Key{UID: "pod", Direction: mesh.Inbound}, Source{Identity: mesh.Identity{ServiceAccount: id}}, 1)
		if err != nil {
			t.Fatal(err)
		}
		defer u.Leave()
		usages = append(usages, u)
	}
	for i, want := range []int{10, 10, 0} { // an eighth for a source, a quarter for all
		n := 0
		for usages[i].Widen(1) {
			n++
		}
		if n != want {
			t.Errorf("source %d: %d bytes, want %d", i, n, want)
		}
	}
	usages[0].Widen(-5)
	if !usages[2].Widen(5) || usages[2].Widen(1) || usages[1].Widen(1) {
		t.Error("after the end of streams: want room for as many bytes, and no more")
	}
	if none := (*Usage)(nil); !none.Widen(1 << 30) {
		t.Error("without a Usage there is a limit")
	}
}
