package http2

import "time"

// Defaults of ResetLimit, and the bound on empty DATA frames.
const (
	DefaultResetBurst = 500
	DefaultResetRate  = 100                   // a second
	DefaultResetYoung = 50 * time.Millisecond // age

	emptyBurst      = 1000 // empty DATA frames without a useful frame in between
	emptyRate       = 100  // a second, that are let pass besides
	maxRefusedEarly = 1000 // streams refused, before the peer knows how many it may open
)

// ResetLimit bounds what a client may have this end begin in vain: streams that it
// opens and resets (rapid reset, CVE-2023-44487), streams that it has this end reset
// (made you reset, CVE-2025-8671), malformed requests, and streams beyond MaxStreams.
// All these leave room for the next stream at once, so that MaxStreams bounds no
// work. The zero value is the default.
//
// It is a leaky bucket, and over its limit the connection ends with
// ENHANCE_YOUR_CALM. A stream goes into it
//
//   - if its client resets it before an answer began and before it was Young: one
//     that has used its place for a while has cost what any request does, and clients
//     with a deadline, or that hedge, reset many such;
//   - if this end resets it for what the client sent, however old, for no client has
//     a reason to do that, or if the request is malformed;
//   - if it is refused for MaxStreams, once the client has acknowledged that setting.
//
// Out of it leak PerSecond in a second, and one for each stream whose answer begins:
// a client half of whose streams are answered is using the connection.
//
// Others: nghttp2 counts every RST_STREAM (burst 1000, 33 a second), and Envoy ends a
// connection half of whose streams, of at least 500, were reset within a second of
// life; both are met by clients with a deadline of a second whose server hangs. h2
// (Rust) counts streams reset before the application took them (20) and resets for
// violations (1024 in the connection's life), Go's server queues requests beyond the
// handlers that run, nginx takes twice its MaxStreams in one turn. Those are about
// their own queues, of which there is none here: a stream's cost begins with its head.
type ResetLimit struct {
	Burst     int           // streams in the bucket; below 0: no limit, for peers that are trusted
	PerSecond int           // streams that leak
	Young     time.Duration // age up to which a reset counts
}

func (l ResetLimit) withDefaults() ResetLimit {
	if l.Burst == 0 {
		l.Burst = DefaultResetBurst
	}
	if l.PerSecond <= 0 {
		l.PerSecond = DefaultResetRate
	}
	if l.Young <= 0 {
		l.Young = DefaultResetYoung
	}
	return l
}

// bucket is a leaky bucket.
type bucket struct {
	empty time.Duration // when it will be, if nothing is added
	drop  time.Duration // what a drop takes to leak
	size  time.Duration // what a full one takes
}

func newBucket(burst, perSecond int) bucket {
	drop := time.Second / time.Duration(perSecond)
	return bucket{drop: drop, size: time.Duration(burst) * drop}
}

// add adds n drops, and reports whether they are too many.
func (b *bucket) add(now time.Duration, n int) (over bool) {
	b.empty = max(b.empty, now) + time.Duration(n)*b.drop
	return b.empty-now > b.size
}

// leak takes out a drop.
func (b *bucket) leak() { b.empty -= b.drop }

// abuse counts what a peer can do for free and that costs this end work.
type abuse struct {
	resets  bucket
	empty   bucket // empty DATA frames since the last useful frame
	refused int    // streams refused before the peer acknowledged our SETTINGS
}

// Tick tells the engine the time, in the time since any moment, before a Feed. The
// limits on resets and empty frames are about time: without a Tick none passes.
func (c *Conn) Tick(now time.Duration) { c.now = max(c.now, now) }

// inVain counts n streams against Config.Resets.
func (c *Conn) inVain(n int) error {
	if c.cfg.Role != Server || c.cfg.Resets.Burst < 0 || !c.abuse.resets.add(c.now, n) {
		return nil
	}
	return connErr(EnhanceYourCalm, "too many streams were opened in vain: reset at once, malformed or refused")
}

// resetByPeer counts a stream that the peer has reset.
func (c *Conn) resetByPeer(s *stream) error {
	if s.sentHeaders || c.now-s.opened >= c.cfg.Resets.Young {
		return nil
	}
	return c.inVain(1)
}

// violation counts a stream that is reset for what the peer sent. s is nil if there
// is none any more.
func (c *Conn) violation(s *stream) error {
	if s != nil && s.credited {
		return c.inVain(2) // its answer made room that it has no right to
	}
	return c.inVain(1)
}

// answered makes room for a stream whose answer begins.
func (c *Conn) answered(s *stream) {
	if c.cfg.Role == Server && !s.malformed && !s.credited {
		s.credited = true
		c.abuse.resets.leak()
	}
}

// emptyFrame counts a DATA frame that carries nothing. A server may send as many as
// it likes: it costs the server as much as this end. So it does a client, but a
// client's connection is one of many, and nothing says who it is.
func (c *Conn) emptyFrame() error {
	if c.cfg.Role == Server && c.abuse.empty.add(c.now, 1) {
		return connErr(EnhanceYourCalm, "too many empty frames")
	}
	return nil
}

// useful notes a frame that carries something.
func (c *Conn) useful() { c.abuse.empty.empty = 0 }
