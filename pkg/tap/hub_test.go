package tap

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestHubDeliversInOrder(t *testing.T) {
	h := NewHub()
	if h.Active() {
		t.Fatal("without subscriptions: Active() = true, want false")
	}
	s := h.Subscribe(func(e *Event) bool { return e.Stream%2 == 0 }, 8)
	defer s.Close()
	if !h.Active() {
		t.Fatal("with a subscription: Active() = false, want true")
	}
	for i := range uint64(6) {
		h.Emit(&Event{Stream: i})
	}
	got, lost, err := s.Next(t.Context())
	if err != nil || lost != 0 {
		t.Fatalf("Next: lost %d, err %v, want 0 and nil", lost, err)
	}
	if len(got) != 3 || got[0].Stream != 0 || got[1].Stream != 2 || got[2].Stream != 4 {
		t.Fatalf("got %v, want the streams 0, 2 and 4", got)
	}
}

// all takes all events, some those of one kind.
type all struct{ got []Kind }

func (s *all) Emit(e *Event) { s.got = append(s.got, e.Kind) }

type some struct {
	all
	kind Kind
}

func (s *some) Wants(k Kind) bool { return k == s.kind }

// TestHubChooses: a sink gets the events that it wants, in order.
func TestHubChooses(t *testing.T) {
	every, ends := &all{}, &some{kind: ResponseEnd}
	h := NewHub(ends, every)
	sent := []Kind{RequestInit, ResponseInit, ResponseEnd, Grown, ResponseEnd}
	for _, k := range sent {
		h.Emit(&Event{Kind: k})
	}
	if !slices.Equal(every.got, sent) {
		t.Errorf("a sink without choice got %v, want %v", every.got, sent)
	}
	if want := []Kind{ResponseEnd, ResponseEnd}; !slices.Equal(ends.got, want) {
		t.Errorf("a sink of ends got %v, want %v", ends.got, want)
	}
	h = NewHub(ends)
	if !h.Wanted(ResponseEnd) || h.Wanted(ResponseInit) {
		t.Error("with a sink of ends, other events are wanted than ends")
	}
	s := h.Subscribe(nil, 1)
	defer s.Close()
	if !h.Wanted(ResponseInit) {
		t.Error("a subscription wants no beginnings of responses")
	}
}

func TestHubLosesNewestAndTells(t *testing.T) {
	h := NewHub()
	s := h.Subscribe(nil, 4)
	defer s.Close()
	for round := range 3 { // both buffers of the subscription are used in turn
		for i := range uint64(10) {
			h.Emit(&Event{Stream: i})
		}
		got, lost, err := s.Next(t.Context())
		if err != nil || lost != 6 || len(got) != 4 || got[0].Stream != 0 || got[3].Stream != 3 {
			t.Fatalf("round %d: %d events, lost %d, err %v; want the first 4 events, 6 lost", round, len(got), lost, err)
		}
	}
	if h.Lost() != 18 {
		t.Fatalf("Lost() = %d, want 18", h.Lost())
	}
}

func TestNextWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHub()
		s := h.Subscribe(nil, 4)
		go func() {
			time.Sleep(time.Second)
			h.Emit(&Event{Path: "/late"})
		}()
		got, _, err := s.Next(t.Context())
		if err != nil || len(got) != 1 || got[0].Path != "/late" {
			t.Fatalf("got %v, err %v; want one event with the path /late", got, err)
		}

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, _, err = s.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("err %v, want context.DeadlineExceeded", err)
		}

		go func() {
			time.Sleep(time.Second)
			s.Close()
			s.Close()
		}()
		if _, _, err = s.Next(t.Context()); !errors.Is(err, ErrClosed) {
			t.Fatalf("err %v, want ErrClosed", err)
		}
		if h.Active() {
			t.Fatal("after the last Close: Active() = true, want false")
		}
	})
}

// TestHubConcurrent checks that each event emitted while a reader is subscribed
// is either read or counted as lost.
func TestHubConcurrent(t *testing.T) {
	h := NewHub()
	const emitters, each = 4, 5000
	s := h.Subscribe(nil, 64)
	var read, lost uint64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for read+lost < emitters*each {
			batch, n, err := s.Next(context.Background())
			if err != nil {
				return
			}
			read, lost = read+uint64(len(batch)), lost+n
		}
	}()
	var wg sync.WaitGroup
	for range emitters {
		wg.Go(func() {
			for i := range uint64(each) {
				h.Emit(&Event{Stream: i})
				if i%500 == 0 { // subscriptions come and go under traffic
					h.Subscribe(nil, 2).Close()
				}
			}
		})
	}
	wg.Wait()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		s.Close()
		<-done
	}
	s.Close()
	if read+lost != emitters*each || read == 0 {
		t.Fatalf("read %d + lost %d, want %d", read, lost, emitters*each)
	}
}

type counter int

func (c *counter) Emit(*Event) { *c++ }

func TestAlwaysSinks(t *testing.T) {
	var n counter
	h := NewHub(&n)
	h.Emit(&Event{})
	s := h.Subscribe(func(*Event) bool { return false }, 1)
	h.Emit(&Event{})
	s.Close()
	if n != 2 || h.Active() {
		t.Fatalf("the sink got %d events, Active() = %v; want 2 and false", n, h.Active())
	}
}

// TestUntold: what is not known of a request that began before the tap is not shown as empty.
func TestUntold(t *testing.T) {
	var n counter
	h := NewHub(&n)
	s := h.Subscribe(nil, 4)
	defer s.Close()
	h.Emit(&Event{Stream: 1, Untold: true})
	h.Emit(&Event{Stream: 2})
	got, _, err := s.Next(t.Context())
	if err != nil || len(got) != 1 || got[0].Stream != 2 || n != 2 {
		t.Errorf("got %v, %v, and the sink %d events; want the event 2, and 2", got, err, n)
	}
}

func TestEmitAllocates0(t *testing.T) {
	h := NewHub()
	e := &Event{Path: "/"}
	if n := testing.AllocsPerRun(100, func() { h.Emit(e) }); n != 0 {
		t.Errorf("no subscriber: %v allocations, want 0", n)
	}
	s := h.Subscribe(nil, 16)
	defer s.Close()
	if n := testing.AllocsPerRun(100, func() { h.Emit(e) }); n != 0 {
		t.Errorf("one subscriber: %v allocations, want 0", n)
	}
}

func BenchmarkEmit(b *testing.B) {
	e := &Event{Method: "GET", Path: "/"}
	b.Run("subscribers=0", func(b *testing.B) {
		h := NewHub()
		b.ReportAllocs()
		for b.Loop() {
			h.Emit(e)
		}
	})
	b.Run("subscribers=1", func(b *testing.B) {
		h := NewHub()
		s := h.Subscribe(nil, DefaultBuffer)
		defer s.Close()
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if i%DefaultBuffer == DefaultBuffer-1 {
				_, _, _ = s.Next(b.Context())
			}
			h.Emit(e)
		}
	})
}
