package http2

import (
	"time"

	xhttp2 "golang.org/x/net/http2"
)

// Defaults of ResetLimit, and bounds on other frames.
const (
	DefaultResetBurst = 500
	DefaultResetRate  = 100 // a second

	emptyBurst      = 1000      // empty DATA frames without another DATA or HEADERS frame in between
	emptyRate       = 100       // empty DATA frames a second that do not count
	windowsBurst    = 1_000_000 // windows of streams that SETTINGS change, of all streams at a time
	windowsRate     = 100_000   // such changes a second that do not count
	framingBurst    = 128 << 10 // bytes of framing that carried nothing, see framing
	framingRate     = 256 << 10 // bytes of it a second
	maxRefusedEarly = 1000      // refused streams that do not count before the peer acknowledged MaxStreams
)

// ResetLimit limits the streams that a client makes this end reset or refuse: streams
// that are reset because of what the client sent (made you reset, CVE-2025-8671),
// malformed requests, and streams that exceed MaxStreams. Each of these makes room for
// another stream at once, so that MaxStreams does not limit the work. A correct client
// causes none of them. The zero value is the default limit.
//
// The limit is a leaky bucket of Burst streams. If it overflows, the connection ends with
// ENHANCE_YOUR_CALM. PerSecond streams leak in a second, and one for each stream whose
// response begins. A stream that exceeds MaxStreams counts after the client acknowledged
// that setting.
//
// Streams that the client itself resets (rapid reset, CVE-2023-44487) do not count here:
// a client whose calls have a deadline of 20 ms resets hundreds a second when its server
// is slow, and a limit that ends the connection punishes it for that. No property of a
// single reset tells the two apart. So the driver limits the rate of these resets instead
// of their number: see Event.Vain.
//
// What others do: nghttp2 counts every RST_STREAM (burst 1000, 33 a second), and Envoy
// ends a connection if half of its streams, from 500 on, were reset within their first
// second; such a client exceeds both. h2 (Rust) counts streams that are reset before the
// application accepts them (20). Go's server limits the requests that wait for a handler.
// nginx limits the new streams of one event. These three protect queues, which this
// engine does not have: it passes a request on at once.
type ResetLimit struct {
	Burst     int // size of the bucket in streams; negative: no limit, for a trusted peer
	PerSecond int // streams that leak in a second
}

func (l ResetLimit) withDefaults() ResetLimit {
	if l.Burst == 0 {
		l.Burst = DefaultResetBurst
	}
	if l.PerSecond <= 0 {
		l.PerSecond = DefaultResetRate
	}
	return l
}

// bucket is a leaky bucket.
type bucket struct {
	empty time.Duration // time at which it will be empty if nothing is added
	drop  time.Duration // time in which one drop leaks
	size  time.Duration // time in which a full bucket leaks
}

func newBucket(burst, perSecond int) bucket {
	drop := time.Second / time.Duration(perSecond)
	return bucket{drop: drop, size: time.Duration(burst) * drop}
}

// add adds n drops, and reports whether the bucket overflows.
func (b *bucket) add(now time.Duration, n int) (over bool) {
	b.empty = max(b.empty, now) + time.Duration(n)*b.drop
	return b.empty-now > b.size
}

// leak removes one drop.
func (b *bucket) leak() { b.empty -= b.drop }

// abuse counts what costs this end work, and its peer nothing.
type abuse struct {
	resets  bucket
	empty   bucket // empty DATA frames since the last useful frame
	framing bucket // bytes of frames that carried nothing
	framed  int    // see Framed
	windows bucket // windows that SETTINGS changed: a frame of 15 bytes changes those of all streams
	refused int    // streams that were refused before the peer acknowledged our SETTINGS
}

// Tick tells the engine the time, as the time since any fixed moment. Call it before each
// Feed. The limits on resets and on empty frames are over time, which stands still
// without Tick.
func (c *guard) Tick(now time.Duration) { c.now = max(c.now, now) }

// framing is what a frame of the peer costs beyond what it carries, in bytes: all of a frame
// without content, and of DATA and field sections the frame header without twice the
// content. It is negative for frames that carry something.
//
// Frames cost this end by their number, and the peer by their bytes. Connections are not
// ended for it, because programs may have their reasons to send bytes one by one: they are
// read more slowly, see Wait. What others do: nginx ends a connection that has received 8
// times as many bytes as were content of either direction, and 1 MiB beyond that.
func framing(h header) int {
	switch h.typ {
	case xhttp2.FrameData, xhttp2.FrameHeaders, xhttp2.FrameContinuation:
		return frameHeaderLen - 2*h.length
	}
	return frameHeaderLen + h.length
}

// charge adds the framing of a Feed, and takes out twice the content that was sent since
// the last one: the peer acknowledges it by frames without content.
func (c *guard) charge(n int) {
	n -= 2 * c.sentData
	c.sentData = 0
	b := &c.abuse.framing
	before := max(b.empty, c.now)
	b.empty = max(before+time.Duration(n)*b.drop, c.now)
	c.abuse.framed = int((b.empty - before) / b.drop)
}

// Framed returns by how many bytes of framing the last Feed has changed the connection's
// account. What is taken from the account was put into it before. It is 0 for most.
func (c *guard) Framed() int { return c.abuse.framed }

// Wait returns how long the peer is to wait for the next Feed, because it sends much more
// framing than content: 0 in most cases.
func (c *guard) Wait() time.Duration {
	return max(0, c.abuse.framing.empty-c.abuse.framing.size-c.now)
}

// inVain adds n streams to the bucket of Config.Resets.
func (c *guard) inVain(n int) error {
	if c.cfg.Role != Server || c.cfg.Resets.Burst < 0 || !c.abuse.resets.add(c.now, n) {
		return nil
	}
	return connErr(EnhanceYourCalm, "too many streams were opened in vain: malformed, refused, or reset for what was sent")
}

// violation counts a stream that is reset because of what the peer sent. s is nil if the
// stream is closed already.
func (c *guard) violation(s *stream) error {
	if s != nil && s.credited {
		return c.inVain(2) // takes back what its response took out
	}
	return c.inVain(1)
}

// answered takes a stream out of the bucket, because the response to s begins.
func (c *guard) answered(s *stream) {
	if c.cfg.Role == Server && !s.malformed && !s.credited {
		s.credited = true
		c.abuse.resets.leak()
	}
}

// emptyFrame counts an empty DATA frame. There is no limit for a server: gateways and
// gRPC servers send many, and they cost the server as much as this end. A client is
// limited, because it can open many connections.
func (c *guard) emptyFrame() error {
	if c.cfg.Role == Server && c.abuse.empty.add(c.now, 1) {
		return connErr(EnhanceYourCalm, "too many empty frames")
	}
	return nil
}

// windowsChanged counts a change of all streams' windows. Server role.
func (c *guard) windowsChanged() error {
	if c.cfg.Role == Server && c.abuse.windows.add(c.now, c.streams.Len()) {
		return connErr(EnhanceYourCalm, "SETTINGS_INITIAL_WINDOW_SIZE changed too often")
	}
	return nil
}

// useful records a frame that is not empty.
func (c *guard) useful() { c.abuse.empty.empty = 0 }
