package http2

import (
	"testing"

	xhttp2 "golang.org/x/net/http2"
)

// TestWiden: a wider window is granted at once, with what was consumed, and further updates are
// sent for half of it.
func TestWiden(t *testing.T) {
	w := newWire(t, Config{Role: Server, StreamWindow: 1000})
	w.get(1, false)
	must(t, w.fr.WriteData(1, false, make([]byte, 600)))
	_, err := w.c.Feed(w.in.Bytes())
	must(t, err)
	w.in.Reset()
	w.c.Consume(1, 400)
	w.c.Widen(1, 1000)
	w.c.Widen(9, 3000)
	w.sent()
	w.c.Widen(1, 3000)
	w.sent("WINDOW_UPDATE 1 2400")
	must(t, w.fr.WriteData(1, false, make([]byte, 2800)))
	events, err := w.c.Feed(w.in.Bytes())
	must(t, err)
	w.in.Reset()
	if last := events[len(events)-1]; last.Kind != EventData {
		t.Fatalf("got %v, want the bytes of the wider window", last.Kind)
	}
	w.c.Consume(1, 1499)
	w.sent()
	w.c.Consume(1, 1)
	w.sent("WINDOW_UPDATE 1 1500")
}

// TestFrameFits: a full frame of DATA has the size of a record, with its header.
func TestFrameFits(t *testing.T) {
	w := newWire(t, Config{Role: Server, FrameFits: 16 << 10}, xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 1 << 20})
	w.get(1, true)
	w.feed("HEADERS 1 " + getEvent + " END")
	must(t, w.c.WriteHeaders(1, fieldList(":status", "200"), false))
	w.sent("HEADERS 1 :status=200")
	if n, err := w.c.WriteData(1, make([]byte, 40_000), false); n != 40_000 || err != nil {
		t.Fatalf("WriteData = %d, %v", n, err)
	}
	w.sent("DATA 1 len=16375", "DATA 1 len=16375", "DATA 1 len=7250")
}
