package h1

import (
	"time"

	"github.com/underlane/underlane/pkg/fairshare"
	"github.com/underlane/underlane/pkg/l7proxy/balance"
	"github.com/underlane/underlane/pkg/l7proxy/http1"
)

// The framing of chunked bodies that carried nothing, in bytes: how much is read at once,
// and how much a second. HTTP/2 has the same limits for its frames (package http2).
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
// most cases, and at most the time of one buffer at framingRate.
func (p *pace) wait(now time.Duration, cost int) time.Duration {
	p.empty = max(max(p.empty, now)+time.Duration(cost)*(time.Second/framingRate), now)
	return max(0, p.empty-now-framingBurst*(time.Second/framingRate))
}

// hold waits before the next part of body is read. The turn of task is over meanwhile.
func (p *pace) hold(body *http1.Body, task *fairshare.Task) {
	cost := body.Framing()
	if cost == 0 {
		return
	}
	if d := p.wait(balance.Now(), cost); d > 0 {
		task.Pause()
		time.Sleep(d)
		task.Resume()
	}
}
