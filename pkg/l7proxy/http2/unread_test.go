package http2

import (
	"errors"
	"strings"
	"testing"
)

// TestUnreadHeads: a client that reads nothing is sent no heads without end. Its further
// streams are refused, and then the connection ends.
func TestUnreadHeads(t *testing.T) {
	const head = 32 << 10
	w := newWire(t, Config{Role: Server})
	fields := fieldList(":status", "200", "x", strings.Repeat("!", head))
	begun, refused := 0, 0
	for id := uint32(1); ; id += 2 {
		w.get(id, true)
		events, err := w.c.Feed(w.in.Bytes())
		w.in.Reset()
		for i := range events {
			if events[i].Kind == EventHeaders {
				begun++
				must(t, w.c.WriteHeaders(id, fields, true))
			}
		}
		if err != nil {
			if e, ok := errors.AsType[*ConnError](err); !ok || e.Code != EnhanceYourCalm {
				t.Errorf("the connection ends with %v, want ENHANCE_YOUR_CALM", err)
			}
			break
		}
		if len(events) == 0 {
			refused++
		}
		if begun > 1000 {
			t.Fatalf("%d streams began, and %d bytes are not read", begun, w.c.OutputLen())
		}
	}
	if most := maxUnread + head + 64<<10; w.c.OutputLen() > most || refused < DefaultResetBurst {
		t.Errorf("%d bytes are not read and %d streams were refused, want at most %d bytes and at least %d streams", w.c.OutputLen(), refused, most, DefaultResetBurst)
	}
}

// TestUnreadRequests: no stream is opened at a server that reads nothing, until it reads.
func TestUnreadRequests(t *testing.T) {
	w := newWire(t, Config{Role: Client})
	fields := fieldList(append(getFields, "x", strings.Repeat("!", 32<<10))...)
	opened := 0
	for ; w.c.MaxOpen() > 0 && opened < 1000; opened++ {
		id, err := w.c.OpenStream(fields, true)
		must(t, err)
		w.c.WriteReset(id, Cancel)
	}
	if _, err := w.c.OpenStream(fields, true); !errors.Is(err, ErrTooManyStreams) || w.c.OutputLen() > maxUnread+64<<10 {
		t.Errorf("after %d streams: got %v and %d bytes of output, want %v and about %d", opened, err, w.c.OutputLen(), ErrTooManyStreams, maxUnread)
	}
	w.c.TakeOutput(nil)
	if !w.c.RoomOpened() {
		t.Error("no room is reported when the server has read")
	}
	if _, err := w.c.OpenStream(fields, true); err != nil {
		t.Errorf("when the server has read: %v, want a stream", err)
	}
}
