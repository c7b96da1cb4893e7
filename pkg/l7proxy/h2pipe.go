package l7proxy

import (
	"slices"

	"github.com/underlane/underlane/pkg/l7proxy/http2"
)

// h2pipe is one direction of a stream: bytes that came from src and go to dst,
// END_STREAM and trailers after them. The stream's mu guards it.
type h2pipe struct {
	stream       *h2stream
	src, dst     *h2conn // dst is nil until it is there
	srcID, dstID uint32

	pending  backlog // came and did not go yet; at most src's stream window (and a replay)
	prepaid  int     // leading bytes of pending whose window src got back already
	trailers []http2.Field
	length   uint64 // body bytes that came
	end      bool   // src ended
	done     bool   // the end went to dst, or nothing goes any more
	sink     bool   // there is no dst: what comes is dropped

	waiting bool // in dst.waiting; dst.mu guards it
}

// data takes body bytes from src: straight on to dst, as far as it takes them.
func (p *h2pipe) data(payload []byte, end bool, b *h2batch) {
	p.length += uint64(len(payload))
	p.end = p.end || end
	p.done = p.done || p.sink && end
	if p.done || p.sink {
		p.credit(len(payload), b)
		return
	}
	if p.dst != nil && p.pending.len() == 0 {
		n := p.offer(payload, b)
		p.credit(n, b)
		payload = payload[n:]
	}
	if len(payload) > 0 && !p.done {
		p.hold(payload)
	} else {
		p.credit(len(payload), b) // dst is gone
	}
}

// hold adds to pending.
func (p *h2pipe) hold(payload []byte) {
	p.pending.add(payload)
	p.account()
}

// finish takes the end of src: with trailers, or none.
func (p *h2pipe) finish(trailers []http2.Field, b *h2batch) {
	p.end = true
	p.done = p.done || p.sink
	if p.done {
		return
	}
	if p.dst == nil || p.pending.len() > 0 {
		p.trailers = slices.Clone(trailers)
		return
	}
	p.trailers = trailers
	p.sendEnd(b)
	p.trailers = nil
}

// push sends what is pending, as much as dst takes now.
func (p *h2pipe) push(b *h2batch) {
	if p.done || p.dst == nil {
		return
	}
	if p.pending.len() > 0 {
		n := p.offer(p.pending.bytes, b)
		p.shift(n, b)
		return
	}
	if p.end {
		p.sendEnd(b)
	}
}

// offer gives bytes to dst and returns how many it took. Once all went and src
// has ended, dst is ended too.
func (p *h2pipe) offer(payload []byte, b *h2batch) int {
	d := p.dst
	end := p.end && p.trailers == nil
	d.mu.Lock()
	n, err := d.engine.WriteData(p.dstID, payload, end)
	if err == nil && n < len(payload) && d.engine.Blocked() && !p.waiting {
		p.waiting = true
		d.waiting = append(d.waiting, p)
	}
	d.mu.Unlock()
	b.add(d)
	switch {
	case err != nil:
		p.abandon(b)
	case n == len(payload) && end:
		p.done = true
	case n == len(payload) && p.end:
		p.sendEnd(b)
	}
	return n
}

func (p *h2pipe) sendEnd(b *h2batch) {
	p.done = true
	d := p.dst
	d.mu.Lock()
	if p.trailers != nil {
		_ = d.engine.WriteTrailers(p.dstID, p.trailers)
	} else {
		_, _ = d.engine.WriteData(p.dstID, nil, true)
	}
	d.mu.Unlock()
	b.add(d)
}

// shift drops the first n bytes of pending, which dst took.
func (p *h2pipe) shift(n int, b *h2batch) {
	p.pending.shift(n)
	p.account()
	paid := min(n, p.prepaid)
	p.prepaid -= paid
	p.credit(n-paid, b)
}

// abandon drops what is pending: nothing goes to dst any more.
func (p *h2pipe) abandon(b *h2batch) {
	p.done = true
	p.trailers = nil
	p.shift(p.pending.len(), b)
}

// credit gives src its window back.
func (p *h2pipe) credit(n int, b *h2batch) {
	if n == 0 || p.src == nil {
		return
	}
	p.src.mu.Lock()
	p.src.engine.Consume(p.srcID, n)
	p.src.mu.Unlock()
	b.add(p.src)
}
