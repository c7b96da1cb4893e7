package listener

import (
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/rawio"
)

// TestGrowth: connections that are more than before wait under contention, those that take
// the place of others do not.
func TestGrowth(t *testing.T) {
	const perSecond = 100
	start := time.Now()
	for name, test := range map[string]struct {
		contended bool
		ended     int // of ten, after each ten
		after     time.Duration
		want      time.Duration // what the last of the ten waits
	}{
		"nobody else wants the processors": {false, 0, 0, 0},
		"none ends":                        {true, 0, 0, 100 * time.Millisecond},
		"half of them end":                 {true, 5, 0, 50 * time.Millisecond},
		"all end":                          {true, 10, 0, 0},
		"as much time as they need":        {true, 0, 100 * time.Millisecond, 0},
	} {
		t.Run(name, func(t *testing.T) {
			g, at := newGrowth(perSecond, start), start
			for range growthAtOnce {
				if rest := g.add(at, test.contended); rest != 0 {
					t.Fatalf("one of the first %d waits %v", growthAtOnce, rest)
				}
			}
			at = at.Add(test.after)
			g.ended.Add(int64(test.ended))
			var got time.Duration
			for range 10 {
				got = g.add(at, test.contended)
			}
			if d := got - test.want; d < -time.Microsecond || d > time.Microsecond {
				t.Errorf("waits %v, want %v", got, test.want)
			}
		})
	}
	if rest := newGrowth(0, start).add(start, true); rest != 0 {
		t.Errorf("without a bound: %v", rest)
	}
}

// TestGrowthIsForgotten: what a pod opened while nobody else wanted the processors is not
// held against it when somebody does.
func TestGrowthIsForgotten(t *testing.T) {
	now := time.Now()
	g := newGrowth(100, now)
	for range 50 * growthAtOnce {
		g.add(now, false)
	}
	if got, most := g.add(now, true), 10*time.Millisecond+time.Microsecond; got > most {
		t.Errorf("waits %v, at most %v is for one", got, most)
	}
}

// contended is the Turns of a pod where others want the processors at all times.
type contended struct{ always }

func (contended) Contended() bool { return true }

// TestGrowthOfLoop: the loop accepts what takes the place of an ended connection at once,
// and lets the open ones become more at its pace.
func TestGrowthOfLoop(t *testing.T) {
	g, l := &Group{Log: slog.New(slog.DiscardHandler)}, listen(t)
	var accepted atomic.Int64
	end := make(chan struct{})
	g.ServeInTurn(l, Manner{Turns: contended{}, Growth: 1}, func(*rawio.Conn) Rest {
		accepted.Add(1)
		<-end
		return nil
	})
	for range growthAtOnce + 20 { // 20 of them would take 20 s
		defer dial(t, l).Close()
	}
	until(t, func() bool { return accepted.Load() >= growthAtOnce })
	time.Sleep(50 * time.Millisecond) // a loop without the bound accepts the rest in this time
	if n := accepted.Load(); n > growthAtOnce+10 {
		t.Errorf("%d were accepted at once, want some %d", n, growthAtOnce)
	}
	close(end)
	until(t, func() bool { return accepted.Load() == growthAtOnce+20 })
}

func until(t *testing.T, what func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !what(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not within 30 s")
		}
	}
}
