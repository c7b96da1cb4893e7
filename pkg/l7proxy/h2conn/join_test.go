package h2conn

import (
	"bytes"
	"testing"

	"github.com/underlane/underlane/pkg/l7proxy/http2"
)

// TestJoined: the payloads of frames that follow each other in one buffer become one, and no
// byte changes; those of other streams, other buffers and with other events between stay apart.
func TestJoined(t *testing.T) {
	const header = "123456789"
	data := func(stream uint32, p []byte, end bool) http2.Event {
		return http2.Event{Kind: http2.EventData, Stream: stream, Payload: p, EndStream: end}
	}
	buf := []byte(header + "one" + header + "two" + header + "three" + header + "four")
	at := func(from, n int) []byte { return buf[from : from+n] }
	other := http2.Event{Kind: http2.EventWindowOpened, Stream: 1}
	events := []http2.Event{
		data(1, at(9, 3), false), data(1, at(21, 3), false), other, data(1, at(33, 5), false),
		data(3, at(47, 4), true), data(3, []byte("elsewhere"), false), data(3, nil, true),
	}
	want := []http2.Event{
		data(1, []byte("onetwo"), false), other, data(1, []byte("three"), false),
		data(3, []byte("four"), true), data(3, []byte("elsewhere"), false), data(3, nil, true),
	}
	got := joined(events)
	if len(got) != len(want) {
		t.Fatalf("got %d events, want %d", len(got), len(want))
	}
	for i := range got {
		if g, w := got[i], want[i]; g.Kind != w.Kind || g.Stream != w.Stream || g.EndStream != w.EndStream || !bytes.Equal(g.Payload, w.Payload) {
			t.Errorf("event %d: got %v of stream %d, %q, end %v; want %q, end %v", i, g.Kind, g.Stream, g.Payload, g.EndStream, w.Payload, w.EndStream)
		}
	}
}
