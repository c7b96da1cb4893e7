package h1

import (
	"time"

	"github.com/underlane/underlane/pkg/fairshare"
	"github.com/underlane/underlane/pkg/l7proxy/balance"
	"github.com/underlane/underlane/pkg/l7proxy/http1"
	"github.com/underlane/underlane/pkg/l7proxy/quota"
)

// The framing of chunked bodies that carried nothing, in bytes: how much is read at once,
// and how much a second. HTTP/2 has the same limits for its frames (package http2). All
// connections of a source together have four times as much (quota.Usage.Framed).
const (
	framingBurst = 128 << 10
	framingRate  = 256 << 10
)

// pace reads a peer slowly whose chunked bodies are mostly framing. Chunks cost this end by
// their number, and the peer by their bytes. The exchange does not end for it, because
// programs may have their reasons to send bytes one by one. It is a leaky bucket: empty is
// when nothing is left in it, in the time of balance.Now.
type pace struct{ empty time.Duration }

// wait adds cost bytes, and returns how long the peer is to wait before the next read: 0 in
// most cases, and at most the time of one buffer at framingRate. added is by how many bytes
// the bucket is fuller, or emptier: what is taken from it was put into it before.
func (p *pace) wait(now time.Duration, cost int) (wait time.Duration, added int) {
	const drop = time.Second / framingRate
	before := max(p.empty, now)
	p.empty = max(before+time.Duration(cost)*drop, now)
	return max(0, p.empty-now-framingBurst*drop), int((p.empty - before) / drop)
}

// due returns how long the peer is to wait before the next part of body is read, for its
// connection's account or for that of its source.
func (p *pace) due(body *http1.Body, source *quota.Usage) time.Duration {
	cost := body.Framing()
	if cost == 0 {
		return 0
	}
	now := balance.Now()
	wait, added := p.wait(now, cost)
	return max(wait, source.Framed(now, added))
}

// restLook is how often a wait looks whether there is still something to wait for.
const restLook = 250 * time.Millisecond

// rest waits for d, or until over. The turn of task is over meanwhile.
func rest(d time.Duration, task *fairshare.Task, over func() bool) {
	if d <= 0 {
		return
	}
	task.Pause()
	defer task.Resume()
	for ; d > 0 && !over(); d -= restLook {
		time.Sleep(min(d, restLook))
	}
}
