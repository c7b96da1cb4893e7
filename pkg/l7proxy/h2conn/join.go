package h2conn

import "github.com/underlane/underlane/pkg/l7proxy/http2"

// joined returns events, in which those of consecutive DATA frames of one stream are one
// event, if they lie in one buffer: bytes that have arrived together are written in one
// system call. The payloads move together, over the headers of the frames.
func joined(events []http2.Event) []http2.Event {
	if len(events) < 2 {
		return events
	}
	out := events[:1]
	for _, ev := range events[1:] {
		last := &out[len(out)-1]
		if last.Kind != http2.EventData || ev.Kind != http2.EventData || ev.Stream != last.Stream || !follows(last.Payload, ev.Payload) {
			out = append(out, ev)
			continue
		}
		last.Payload = append(last.Payload, ev.Payload...)
		last.EndStream = ev.EndStream
	}
	return out
}

// follows reports whether q lies behind p in the same buffer, with only the header of a frame
// between them.
func follows(p, q []byte) bool {
	at := len(p) + http2.FrameHeader
	return len(q) > 0 && cap(p) > at && &p[:at+1][at] == &q[0]
}
