package h2

import (
	"slices"

	"github.com/underlane/underlane/pkg/l7proxy/h2conn"
	"github.com/underlane/underlane/pkg/l7proxy/http2"
	"github.com/underlane/underlane/pkg/l7proxy/quota"
)

// pipe is one direction of a stream: bytes that came from src and go to dst,
// END_STREAM and trailers after them. The stream's mu guards it.
type pipe struct {
	stream       *stream
	src, dst     *h2conn.Conn // dst is nil while there is no connection
	srcID, dstID uint32

	pending  quota.Backlog // bytes that were received and not sent; at most src's stream window (and a replay)
	prepaid  int           // leading bytes of pending whose window was returned to src already
	window   window
	trailers []http2.Field
	length   uint64 // bytes of the body that were received
	end      bool   // src has ended
	done     bool   // the end was sent to dst, or nothing is sent any more
	sink     bool   // there is no dst: received bytes are dropped
	lost     bool   // dst's engine has closed the stream, and the event that says so follows

	waiting bool // it waits for room on dst; dst's lock guards it

	round     uint32 // the batch in which small were counted
	small     uint8  // small payloads that came in it
	gathering bool   // small payloads are in pending until the batch is flushed
}

// A peer that sends many payloads of at most gatherSize bytes in one read gets them sent on
// together, from the one after gatherAfter on: a frame costs the agent, the other agent and
// the application much more than its bytes.
const (
	gatherSize  = 64
	gatherAfter = 1
)

// gathers reports whether a payload is to be sent with those that follow in the same batch.
func (p *pipe) gathers(size int, b *h2conn.Batch) bool {
	if size > gatherSize {
		return false
	}
	if round := b.Round(); p.round != round {
		p.round, p.small = round, 0
	}
	if p.small < gatherAfter {
		p.small++
		return false
	}
	return true
}

// data takes bytes of the body from src, and sends them to dst as far as it takes them now,
// or with the others of the batch that are small.
func (p *pipe) data(payload []byte, end bool, b *h2conn.Batch) {
	gathers := !end && p.gathers(len(payload), b)
	if !gathers {
		p.scatter(b)
	}
	p.length += uint64(len(payload))
	p.end = p.end || end
	p.done = p.done || p.sink && end
	if p.done || p.sink || p.lost {
		p.credit(len(payload), b)
		return
	}
	if p.dst != nil && (p.gathering || p.pending.Len() == 0) {
		if gathers {
			p.gather(payload, b)
			return
		}
		n := p.offer(payload, b)
		p.credit(n, b)
		payload = payload[n:]
	}
	if len(payload) > 0 && !p.done && !p.lost {
		p.hold(payload)
	} else {
		p.credit(len(payload), b) // dst takes nothing any more
	}
}

// gather keeps a small payload until the batch is flushed.
func (p *pipe) gather(payload []byte, b *h2conn.Batch) {
	p.pending.Add(payload)
	if !p.gathering {
		p.gathering = true
		b.Then(p)
	}
}

// scatter sends what was gathered, as far as dst takes it.
func (p *pipe) scatter(b *h2conn.Batch) {
	if !p.gathering {
		return
	}
	p.gathering = false
	if p.dst != nil && p.pending.Len() > 0 && !p.done && !p.lost {
		p.shift(p.offer(p.pending.Bytes, b), b)
	}
}

// hold appends to pending.
func (p *pipe) hold(payload []byte) {
	p.pending.Add(payload)
	p.account()
}

// finish takes the end of src, with trailers or none.
func (p *pipe) finish(trailers []http2.Field, b *h2conn.Batch) {
	p.scatter(b)
	p.end = true
	p.done = p.done || p.sink
	if p.done || p.lost {
		return
	}
	if p.dst == nil || p.pending.Len() > 0 {
		p.trailers = slices.Clone(trailers)
		return
	}
	p.trailers = trailers
	p.sendEnd(b)
	p.trailers = nil
}

// push sends pending bytes, as many as dst takes now.
func (p *pipe) push(b *h2conn.Batch) {
	p.gathering = false
	if p.done || p.lost || p.dst == nil {
		return
	}
	if p.pending.Len() > 0 {
		n := p.offer(p.pending.Bytes, b)
		p.shift(n, b)
		return
	}
	if p.end {
		p.sendEnd(b)
	}
}

// offer sends bytes to dst and returns how many it took. If it took all and src has ended,
// offer also sends the end.
func (p *pipe) offer(payload []byte, b *h2conn.Batch) int {
	d := p.dst
	end := p.end && p.trailers == nil
	d.Lock()
	n, err := d.Engine.WriteData(p.dstID, payload, end)
	if err == nil && n < len(payload) {
		d.AwaitRoom(p, &p.waiting)
	}
	d.Unlock()
	b.Add(d)
	switch {
	case err != nil:
		// The peer has reset the stream, and the event was not handled yet. This is not the
		// end of the stream: the event's handler still has to reset the other side.
		p.lost, p.trailers = true, nil
		p.shift(p.pending.Len(), b)
	case n == len(payload) && end:
		p.done = true
		p.ended()
	case n == len(payload) && p.end:
		p.sendEnd(b)
	}
	return n
}

// ended notes that the end was sent.
func (p *pipe) ended() {
	if p == p.stream.req {
		p.stream.exchange.Uploaded()
	}
}

func (p *pipe) sendEnd(b *h2conn.Batch) {
	p.done = true
	p.ended()
	d := p.dst
	d.Lock()
	if p.trailers != nil {
		_ = d.Engine.WriteTrailers(p.dstID, p.trailers)
	} else {
		_, _ = d.Engine.WriteData(p.dstID, nil, true)
	}
	d.Unlock()
	b.Add(d)
}

// shift removes the first n bytes of pending, which dst took.
func (p *pipe) shift(n int, b *h2conn.Batch) {
	p.pending.Shift(n)
	p.account()
	paid := min(n, p.prepaid)
	p.prepaid -= paid
	p.credit(n-paid, b)
}

// abandon drops the pending bytes: nothing is sent to dst any more.
func (p *pipe) abandon(b *h2conn.Batch) {
	p.done = true
	p.trailers = nil
	p.shift(p.pending.Len(), b)
}

// credit returns n bytes of window to src.
func (p *pipe) credit(n int, b *h2conn.Batch) {
	if n == 0 || p.src == nil {
		return
	}
	p.src.Consume(p.srcID, n)
	if p.window.took(n, p.src.Heard()) {
		p.widen()
	}
	b.Add(p.src)
}

// Resume implements h2conn.Waiter.
func (p *pipe) Resume(b *h2conn.Batch) {
	p.stream.mu.Lock()
	defer p.stream.mu.Unlock()
	p.push(b)
	p.stream.settle(b)
}

// account charges the pending bytes, and those of the request that are kept for another
// attempt, to the pod's usage.
func (p *pipe) account() {
	now := p.pending.Size()
	if kept := p.stream.replay; p == p.stream.req && len(kept) > replayFree {
		now += cap(kept)
	}
	if p.stream.gone {
		now = 0
	}
	p.pending.Charge(now, p.stream.client.s.Quota)
}
