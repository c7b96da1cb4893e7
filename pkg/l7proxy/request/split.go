package request

import (
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/upstream"
	"github.com/underlane/underlane/pkg/monotime"
)

// phase is what an exchange waits for. All of its time is in one of the parts of
// tap.Split, so that they add up to its duration.
type phase uint8

const (
	queued     phase = iota // Split.Queue
	settling                // Split.Connect: a connection is there, and its SETTINGS are not
	sent                    // Split.FirstByte
	responding              // Split.Body
)

// Began returns the time when the exchange began.
func (x *timing) Began() time.Time { return x.began }

// elapsed returns the time since the exchange began.
func (x *timing) elapsed() time.Duration { return monotime.Now() - x.at }

// Elapsed returns the time since the request began, for Attempted. It is 0, and reads no
// clock, if the request is not sampled.
func (x *timing) Elapsed() time.Duration {
	if x.event.Trace == nil {
		return 0
	}
	return x.elapsed()
}

// enter begins another phase. now is counted from began.
func (x *timing) enter(next phase, now time.Duration) {
	part := &x.event.Split.Queue
	switch x.phase {
	case settling:
		part = &x.event.Split.Connect
	case sent:
		part = &x.event.Split.FirstByte
	case responding:
		part = &x.event.Split.Body
	}
	*part += now - x.since
	x.phase, x.since = next, now
}

// after is enter for the end of a wait for a connection that took was made for; nil: for
// none.
func (x *timing) after(took *upstream.Took, next phase) {
	if x.session == nil {
		return // the exchange is a mirrored copy, which is not reported, or has ended
	}
	x.afterAt(took, next, x.elapsed())
}

func (x *timing) afterAt(took *upstream.Took, next phase, now time.Duration) {
	if took != nil && x.phase == queued && took.Began > 0 {
		connect, tls := took.Within(x.at+x.since, x.at+now)
		x.event.Split.Connect += connect
		x.event.Split.TLS += tls
		x.since += connect + tls // what is left is time in the queue
	}
	x.enter(next, now)
}

// Sent records that the request's head is sent now. took says when the connection was
// made.
func (x *timing) Sent(took *upstream.Took) { x.after(took, sent) }

// SentAt is Sent for a time in the past, by monotime.Now, if it is after what was recorded last.
func (x *timing) SentAt(took *upstream.Took, at time.Duration) {
	if at -= x.at; at < x.since {
		x.Sent(took)
	} else if x.session != nil {
		x.afterAt(took, sent, at)
	}
}

// Settles records that the request has a connection, and waits for its SETTINGS.
func (x *timing) Settles(took *upstream.Took) { x.after(took, settling) }

// Waits records that the request waits in the proxy again, because an attempt has failed.
// took says when the connection was made that has failed; nil: there was one.
func (x *timing) Waits(took *upstream.Took) { x.after(took, queued) }

// Uploaded records that the whole request has been sent now.
func (x *timing) Uploaded() {
	if x.session != nil && x.phase == sent {
		x.uploaded(x.elapsed())
	}
}

// UploadedAt is Uploaded for a time in the past, by monotime.Now.
func (x *timing) UploadedAt(at time.Duration) {
	if at -= x.at; x.session != nil && x.phase == sent && at > x.since {
		x.uploaded(at)
	}
}

// uploaded counts the time until now as that of a body: how long it took depends on the
// client as well.
func (x *timing) uploaded(now time.Duration) {
	x.event.Split.Body += now - x.since
	x.since = now
}
