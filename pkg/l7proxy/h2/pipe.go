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
	src, dst     *h2conn.Conn // dst is nil until it is there
	srcID, dstID uint32

	pending  quota.Backlog // came and did not go yet; at most src's stream window (and a replay)
	prepaid  int           // leading bytes of pending whose window src got back already
	trailers []http2.Field
	length   uint64 // body bytes that came
	end      bool   // src ended
	done     bool   // the end went to dst, or nothing goes any more
	sink     bool   // there is no dst: what comes is dropped
	lost     bool   // dst takes nothing any more, which is no end: its event is on the way

	waiting bool // for room on dst; whose lock guards it
}

// data takes body bytes from src: straight on to dst, as far as it takes them.
func (p *pipe) data(payload []byte, end bool, b *h2conn.Batch) {
	p.length += uint64(len(payload))
	p.end = p.end || end
	p.done = p.done || p.sink && end
	if p.done || p.sink || p.lost {
		p.credit(len(payload), b)
		return
	}
	if p.dst != nil && p.pending.Len() == 0 {
		n := p.offer(payload, b)
		p.credit(n, b)
		payload = payload[n:]
	}
	if len(payload) > 0 && !p.done && !p.lost {
		p.hold(payload)
	} else {
		p.credit(len(payload), b) // dst is gone
	}
}

// hold adds to pending.
func (p *pipe) hold(payload []byte) {
	p.pending.Add(payload)
	p.account()
}

// finish takes the end of src: with trailers, or none.
func (p *pipe) finish(trailers []http2.Field, b *h2conn.Batch) {
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

// push sends what is pending, as much as dst takes now.
func (p *pipe) push(b *h2conn.Batch) {
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

// offer gives bytes to dst and returns how many it took. Once all went and src
// has ended, dst is ended too.
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
		// The peer has reset the stream, and the engine knows before the stream's
		// owner is told. To count this as the end of the stream would leave the other
		// side without the reset.
		p.lost, p.trailers = true, nil
		p.shift(p.pending.Len(), b)
	case n == len(payload) && end:
		p.done = true
	case n == len(payload) && p.end:
		p.sendEnd(b)
	}
	return n
}

func (p *pipe) sendEnd(b *h2conn.Batch) {
	p.done = true
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

// shift drops the first n bytes of pending, which dst took.
func (p *pipe) shift(n int, b *h2conn.Batch) {
	p.pending.Shift(n)
	p.account()
	paid := min(n, p.prepaid)
	p.prepaid -= paid
	p.credit(n-paid, b)
}

// abandon drops what is pending: nothing goes to dst any more.
func (p *pipe) abandon(b *h2conn.Batch) {
	p.done = true
	p.trailers = nil
	p.shift(p.pending.Len(), b)
}

// credit gives src its window back.
func (p *pipe) credit(n int, b *h2conn.Batch) {
	if n == 0 || p.src == nil {
		return
	}
	p.src.Consume(p.srcID, n)
	b.Add(p.src)
}

// Resume implements h2conn.Waiter.
func (p *pipe) Resume(b *h2conn.Batch) {
	p.stream.mu.Lock()
	defer p.stream.mu.Unlock()
	p.push(b)
	p.stream.settle(b)
}

// account tells the pod's usage how much waits in p now.
func (p *pipe) account() {
	now := p.pending.Len()
	if p.stream.gone {
		now = 0
	}
	p.pending.Charge(now, p.stream.client.s.Quota)
}
