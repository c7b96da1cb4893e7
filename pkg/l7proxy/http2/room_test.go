package http2

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	xhttp2 "golang.org/x/net/http2"
)

// TestRoomForStreams: RoomOpened reports once that there is room again, for every cause.
func TestRoomForStreams(t *testing.T) {
	limit := func(n uint32) xhttp2.Setting {
		return xhttp2.Setting{ID: xhttp2.SettingMaxConcurrentStreams, Val: n}
	}
	for name, free := range map[string]func(w *wire, id uint32){
		"the peer ends it": func(w *wire, id uint32) {
			w.headers(id, true, ":status", "204")
			w.feed("HEADERS 1 :status=204 END")
		},
		"the peer resets it": func(w *wire, id uint32) {
			must(w.t, w.fr.WriteRSTStream(id, Cancel))
			w.feed("RESET 1 CANCEL")
		},
		"this end resets it": func(w *wire, id uint32) { w.c.WriteReset(id, Cancel) },
		"the peer allows more": func(w *wire, _ uint32) {
			must(w.t, w.fr.WriteSettings(limit(2)))
			w.feed("SETTINGS")
		},
		"the peer goes away": func(w *wire, id uint32) {
			must(w.t, w.fr.WriteGoAway(id, NoError, nil))
			w.feed("GOAWAY 1 NO_ERROR")
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWire(t, Config{Role: Client}, limit(1))
			id, err := w.c.OpenStream(fieldList(getFields...), true)
			must(t, err)
			if n, opened := w.c.MaxOpen(), w.c.RoomOpened(); n != 0 || opened {
				t.Errorf("MaxOpen = %d, RoomOpened = %v, before a request was refused; want 0, false", n, opened)
			}
			if _, err := w.c.OpenStream(fieldList(getFields...), true); !errors.Is(err, ErrTooManyStreams) {
				t.Fatalf("OpenStream: %v, want %v", err, ErrTooManyStreams)
			}
			if w.c.RoomOpened() {
				t.Error("RoomOpened is true while there is no room")
			}
			free(w, id)
			if !w.c.RoomOpened() || w.c.RoomOpened() {
				t.Error("RoomOpened is not true once")
			}
			want := error(nil)
			if name == "the peer goes away" {
				want = ErrGoingAway
			}
			if _, err := w.c.OpenStream(fieldList(getFields...), true); !errors.Is(err, want) {
				t.Errorf("OpenStream: %v, want %v", err, want)
			}
		})
	}
	t.Run("before and after its settings", func(t *testing.T) {
		w := rawWire(t, Config{Role: Client})
		if n, known := w.c.PeerMaxStreams(); n != 100 || known {
			t.Errorf("PeerMaxStreams = %d, %v; want 100, false", n, known)
		}
		for range 3 {
			_, err := w.c.OpenStream(fieldList(getFields...), true)
			must(t, err)
		}
		must(t, w.fr.WriteSettings(limit(1)))
		must(t, w.fr.WriteRSTStream(3, RefusedStream)) // the engine did not know the limit
		must(t, w.fr.WriteRSTStream(5, RefusedStream))
		w.feed("SETTINGS", "RESET 3 REFUSED_STREAM RETRYABLE", "RESET 5 REFUSED_STREAM RETRYABLE")
		if n, known := w.c.PeerMaxStreams(); n != 1 || !known || w.c.MaxOpen() != 0 {
			t.Errorf("PeerMaxStreams = %d, %v, MaxOpen = %d; want 1, true, 0", n, known, w.c.MaxOpen())
		}
	})
	t.Run("refused after an answer began", func(t *testing.T) { // so it was processed
		w := newWire(t, Config{Role: Client})
		id, err := w.c.OpenStream(fieldList(getFields...), true)
		must(t, err)
		w.headers(id, false, ":status", "200")
		must(t, w.fr.WriteRSTStream(id, RefusedStream))
		w.feed("HEADERS 1 :status=200", "RESET 1 REFUSED_STREAM")
	})
}

// TestStalled: Stalled reports which limit applies to a stream, and Windows the rest of
// the connection's windows.
func TestStalled(t *testing.T) {
	type state struct {
		Streams    [2]Stall // streams 1 and 3
		Send, Recv int
	}
	const window = 100
	w := newWire(t, Config{Role: Server, OutputLimit: 1 << 20, ConnWindow: 70_000, StreamWindow: 50_000},
		xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: window})
	check := func(what string, want state) {
		t.Helper()
		got := state{Streams: [2]Stall{w.c.Stalled(1), w.c.Stalled(3)}}
		got.Send, got.Recv = w.c.Windows()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	w.get(1, false)
	w.get(3, true)
	w.feed("HEADERS 1 "+getEvent, "HEADERS 3 "+getEvent+" END")
	check("at first", state{Send: initialWindow, Recv: 70_000})
	for _, id := range []uint32{1, 3} {
		must(t, w.c.WriteHeaders(id, fieldList(":status", "200"), false))
	}
	body := make([]byte, initialWindow)
	if n, err := w.c.WriteData(1, body, false); n != window || err != nil {
		t.Fatalf("WriteData = %d, %v; want %d", n, err, window)
	}
	check("a stream's window is spent", state{Streams: [2]Stall{StallStream, StallNone}, Send: initialWindow - window, Recv: 70_000})

	must(t, w.fr.WriteWindowUpdate(3, initialWindow))
	w.feed()
	if n, err := w.c.WriteData(3, body, false); n != initialWindow-window || err != nil {
		t.Fatalf("WriteData = %d, %v; want %d", n, err, initialWindow-window)
	}
	check("the connection's is", state{Streams: [2]Stall{StallStream, StallConn}, Recv: 70_000})

	for range 5 {
		must(t, w.fr.WriteData(1, false, body[:10_000]))
	}
	if _, err := w.c.Feed(w.in.Bytes()); err != nil {
		t.Fatal(err)
	}
	w.in.Reset()
	check("received and not consumed", state{Streams: [2]Stall{StallStream, StallConn}, Recv: 20_000})
	w.c.Consume(1, 50_000)
	check("consumed", state{Streams: [2]Stall{StallStream, StallConn}, Recv: 70_000})

	must(t, w.fr.WriteWindowUpdate(0, 3<<20))
	must(t, w.fr.WriteWindowUpdate(3, 2<<20))
	w.feed("WINDOW")
	n, err := w.c.WriteData(3, make([]byte, 2<<20), false)
	if err != nil || n >= 2<<20 {
		t.Fatalf("WriteData = %d, %v", n, err)
	}
	check("the output is full", state{Streams: [2]Stall{StallStream, StallOutput}, Send: 3<<20 - n, Recv: 70_000})
	w.c.WriteReset(3, Cancel)
	check("it is gone", state{Streams: [2]Stall{StallStream, StallNone}, Send: 3<<20 - n, Recv: 70_000})
}

// TestMaxStreamsOfSettings: a peer's limit on streams is 100 until its SETTINGS arrive,
// then what they say, and none if they say nothing (RFC 9113 §6.5.2). Later SETTINGS
// without the value leave it as it is.
func TestMaxStreamsOfSettings(t *testing.T) {
	const none = 1 << 30
	limit := func(n uint32) []xhttp2.Setting {
		return []xhttp2.Setting{{ID: xhttp2.SettingMaxConcurrentStreams, Val: n}}
	}
	other := []xhttp2.Setting{{ID: xhttp2.SettingInitialWindowSize, Val: 1000}}
	for _, test := range []struct {
		name     string
		settings [][]xhttp2.Setting
		want     []int
	}{
		{"none", [][]xhttp2.Setting{nil, nil}, []int{none, none}},
		{"another", [][]xhttp2.Setting{other}, []int{none}},
		{"a low one, then none", [][]xhttp2.Setting{limit(7), other}, []int{7, 7}},
		{"none, then a low one", [][]xhttp2.Setting{other, limit(0), limit(5000)}, []int{none, 0, 5000}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := rawWire(t, Config{Role: Client})
			if got, known := w.c.PeerMaxStreams(); got != earlyStreams || known {
				t.Errorf("PeerMaxStreams = %d, %v before SETTINGS; want %d, false", got, known, earlyStreams)
			}
			for i, s := range test.settings {
				must(t, w.fr.WriteSettings(s...))
				w.feed("SETTINGS")
				if got, known := w.c.PeerMaxStreams(); got != test.want[i] || !known {
					t.Errorf("PeerMaxStreams = %d, %v after SETTINGS number %d; want %d, true", got, known, i+1, test.want[i])
				}
			}
		})
	}
}
