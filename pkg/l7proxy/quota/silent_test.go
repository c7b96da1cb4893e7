package quota

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestOldestSilentGoes: where a client has as much as it may, its oldest connection on which
// nothing was said for a while is closed for a new one, and no other is.
func TestOldestSilentGoes(t *testing.T) {
	for name, p := range map[string]*Pods{
		"connections": {MaxConns: 8},
		"descriptors": {MaxConns: 1000, Descriptors: 32},
	} {
		synctest.Test(t, func(t *testing.T) {
			var evicted []int
			var all []*Usage
			enter := func(from Source) (u *Usage, err error) {
				if u, err = p.Enter(inbound, from, 1); err == nil {
					n := len(all)
					all = append(all, u)
					u.Silent(func() { evicted = append(evicted, n) })
				}
				return u, err
			}
			full := func() (err error) {
				for err == nil {
					_, err = enter(stranger(1))
				}
				return err
			}
			want := full()
			if !errors.Is(want, ErrSource) && !errors.Is(want, ErrDescriptors) || len(evicted) > 0 {
				t.Errorf("%s: the client that is silent for no time: got %v and %d closed, want a refusal", name, want, len(evicted))
			}
			if !all[0].Spoke() {
				t.Errorf("%s: a connection that speaks is closed", name)
			}
			time.Sleep(silentFor)
			if _, err := enter(stranger(1)); err != nil {
				t.Errorf("%s: a newcomer: got %v, want that it is let in", name, err)
			}
			if diff := cmp.Diff([]int{1}, evicted); diff != "" {
				t.Errorf("%s: closed (-want +got):\n%s", name, diff)
			}
			if all[1].Spoke() {
				t.Errorf("%s: the connection that was closed does not know", name)
			}
			if p.EvictedSilent() != 1 {
				t.Errorf("%s: %d are counted, want 1", name, p.EvictedSilent())
			}
			if _, err := enter(stranger(2)); err != nil || len(evicted) != 1 {
				t.Errorf("%s: another client: got %v and %d closed, want room of its own", name, err, len(evicted))
			}
			if closed, err := all[1].Open(); err == nil { // its dial was under way
				closed()
			}
			for _, u := range all {
				u.Leave()
			}
			if len(p.byKey)+len(p.descriptors.bySource)+len(p.strangers.bySource) != 0 || p.descriptors.used != 0 {
				t.Errorf("%s: left: %+v, %+v, %d pods", name, p.descriptors, p.strangers, len(p.byKey))
			}
		})
	}
	(*Usage)(nil).Silent(nil)
	if !(*Usage)(nil).Spoke() {
		t.Error("a nil Usage is closed")
	}
}
