package h2conn

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/underlane/underlane/pkg/l7proxy/http2"
)

// wire is a read: the payloads of its DATA events lie in one buffer, with a header before each.
type wire struct {
	events []http2.Event
	buf    []byte
}

func newWire() *wire { return &wire{buf: make([]byte, 0, 256<<10)} }

func (w *wire) data(stream uint32, payload string, end bool) {
	w.buf = append(w.buf, "123456789"...)
	from := len(w.buf)
	w.buf = append(w.buf, payload...)
	w.events = append(w.events, http2.Event{Kind: http2.EventData, Stream: stream, Payload: w.buf[from:], EndStream: end})
}

func (w *wire) other(kind http2.EventKind, stream uint32) {
	w.events = append(w.events, http2.Event{Kind: kind, Stream: stream})
}

// TestGathered: frames of a byte that come in turns for 8 streams are one event for each of
// them, with all bytes in their order.
func TestGathered(t *testing.T) {
	w := newWire()
	want := map[uint32]string{}
	for i := range 800 {
		stream, letter := uint32(i%8)*2+1, string(rune('a'+i/8%26))
		w.data(stream, letter, i >= 792)
		want[stream] += letter
	}
	got := gathered(joined(w.events))
	if len(got) != 8 {
		t.Fatalf("got %d events, want one for each of 8 streams", len(got))
	}
	for _, ev := range got {
		if string(ev.Payload) != want[ev.Stream] || !ev.EndStream {
			t.Errorf("stream %d: got %q, end %v; want %q and the end", ev.Stream, ev.Payload, ev.EndStream, want[ev.Stream])
		}
	}
}

// TestGatheredKeepsOrder: whatever comes, each stream has the same bytes and other events in the
// same order as without.
func TestGatheredKeepsOrder(t *testing.T) {
	// story is what happens to a stream: payloads, where one ends does not matter, and others.
	story := func(events []http2.Event) map[uint32]string {
		of := map[uint32]string{}
		for _, ev := range events {
			if ev.Kind == http2.EventData {
				of[ev.Stream] += string(ev.Payload)
			} else {
				of[ev.Stream] += "<" + ev.Kind.String() + ">"
			}
			if ev.EndStream {
				of[ev.Stream] += "<end>"
			}
		}
		return of
	}
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		w, ended := newWire(), map[uint32]bool{}
		for n := 1 + r.IntN(200); n > 0; n-- {
			stream := uint32(r.IntN(6))*2 + 1
			if ended[stream] {
				continue
			}
			switch r.IntN(12) {
			case 0:
				w.other(http2.EventHeaders, stream)
			case 1:
				w.other(http2.EventReset, stream)
			case 2:
				w.other(http2.EventWindowOpened, 0)
			case 3:
				w.data(stream, string(bytes.Repeat([]byte{'A' + byte(n%26)}, gatherSize+1)), false)
			default:
				ended[stream] = r.IntN(20) == 0
				w.data(stream, fmt.Sprint(n, ","), ended[stream])
			}
		}
		want := story(w.events)
		got := story(gathered(joined(w.events)))
		for stream := range want {
			if got[stream] != want[stream] {
				t.Fatalf("seed %d, stream %d: got %q, want %q", seed, stream, got[stream], want[stream])
			}
		}
	}
}

// BenchmarkGathered: a message of each of 32 streams, none of which has two.
func BenchmarkGathered(b *testing.B) {
	w := newWire()
	for n := range 32 {
		w.data(uint32(2*n+1), "a message of a hundred bytes or so", false)
	}
	events := make([]http2.Event, len(w.events))
	for b.Loop() {
		copy(events, w.events)
		gathered(events)
	}
}
