package h2conn

import (
	"slices"
	"sync"

	"github.com/underlane/underlane/pkg/l7proxy/http2"
)

const (
	// gatherFrom is the number of events of a read from which on gathered looks at them: fewer
	// are mostly of as many streams.
	gatherFrom = 16
	gatherSize = 1 << 10 // a larger payload stays an event of its own
)

// lastOf has, for each stream, the index of its last event, if that is a small payload.
var lastOf = sync.Pool{New: func() any { return make(map[uint32]int) }}

// gathered returns events, in which the small payloads that a stream has in one read are one
// event, at the place of the first. A peer may send frames of a few bytes for several streams in
// turns. Each event costs a system call, and the application a wake-up, however small it is.
//
// Where the stream has another event between two payloads, they stay apart. Events of other
// streams, and of the connection, may be between them: a stream does not depend on these.
func gathered(events []http2.Event) []http2.Event {
	if len(events) < gatherFrom {
		return events
	}
	last := lastOf.Get().(map[uint32]int)
	defer lastOf.Put(last)
	clear(last)
	out := events[:0]
	for _, ev := range events {
		small := ev.Kind == http2.EventData && len(ev.Payload) <= gatherSize
		if at, follows := last[ev.Stream]; small && follows {
			into := &out[at]
			into.Payload = append(into.Payload, ev.Payload...)
			into.EndStream = ev.EndStream
			continue
		}
		if small {
			last[ev.Stream] = len(out)
			ev.Payload = slices.Clip(ev.Payload) // the next payload in the buffer is not to be overwritten
		} else {
			delete(last, ev.Stream)
		}
		out = append(out, ev)
	}
	return out
}
