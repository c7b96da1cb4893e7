package h1

import (
	"errors"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/mesh"
)

// While a receiver is slow, a session holds no buffer but for the bytes that the receiver
// has not taken, and these count as bytes of the pod that wait.

// errSlow: so many bytes of the pod wait that this exchange is ended.
var errSlow = mesh.Fail(mesh.ReasonOverload, nil)

// write writes p to the client. up is the connection whose bytes p may be a part of; nil:
// none. With whole set, nothing needs the request any more.
func (d *messages) write(p []byte, up *appConn, whole bool) error {
	kept, err := d.s.Client.Offer(p)
	d.putJoined()
	if err != nil || kept == 0 {
		return err
	}
	return d.flush(kept, up, whole)
}

// flush waits until the client's connection has sent the bytes that it has kept.
func (d *messages) flush(kept int, up *appConn, whole bool) error {
	if cap(d.out) > keepOut {
		d.out = nil
	}
	if whole {
		d.resp.Reset() // it points into the buffer, as d.req and up.In do
	}
	if up == nil || len(up.In) == 0 {
		d.putRespBuf(up)
	} else {
		kept += conn.BufferSize
	}
	if !d.upload.running() && d.buf != nil {
		if whole {
			d.req.Reset()
			d.fitBuffer()
		}
		kept += len(*d.buf)
	}
	defer d.s.Quota.Waited(kept)
	if !d.s.Quota.Wait(kept) {
		return errSlow
	}
	return d.s.Client.Flush()
}

// dropRequest gives the buffer of a request back that has gone out whole and is not sent
// again. What the client has sent beyond it stays, and is charged to the pod if it is much.
func (d *messages) dropRequest() {
	d.req.Reset()
	if len(d.in) == 0 {
		d.putBuffer()
		d.buf, d.in = &d.small, nil
	} else {
		d.fitBuffer()
	}
	held := len(*d.buf)
	if held <= headBuffer {
		held = 0
	}
	d.waiting.Set(held, d.s.Quota)
}

// dropBuffers drops all buffers: nothing needs the request or the response any more.
func (d *messages) dropBuffers(up *appConn) {
	d.waiting.Set(0, d.s.Quota)
	d.req.Reset()
	d.resp.Reset()
	up.In, d.in, d.out = nil, nil, nil
	d.putBuffer()
	d.putRespBuf(nil)
}

// dropWaiting is the end of an exchange: nothing of it waits any more.
func (d *messages) dropWaiting() {
	d.putRespBuf(nil)
	d.putJoined()
	d.waiting.Set(0, d.s.Quota)
}

// putRespBuf gives the buffer of the response back, if there is one. up is the connection
// whose bytes are in it; nil: none.
func (d *messages) putRespBuf(up *appConn) {
	if up != nil {
		up.In = nil
	}
	if d.respBuf != nil {
		conn.PutBuffer(d.respBuf)
		d.respBuf = nil
	}
}

// putJoined gives the buffer of a response's head back, if there is one.
func (d *messages) putJoined() {
	if d.joined != nil {
		conn.PutBuffer(d.joined)
		d.joined = nil
	}
}

// write writes p, a part of the client's body, to the endpoint.
func (p *pump) write(now []byte) error {
	kept, err := p.server.Offer(now)
	if err != nil || kept == 0 {
		return err
	}
	return p.flush(kept)
}

// flush waits until the endpoint's connection has sent the bytes that it has kept.
func (p *pump) flush(kept int) error {
	d := p.d
	d.fitBuffer()
	kept += len(*d.buf)
	defer d.s.Quota.Waited(kept)
	if !d.s.Quota.Wait(kept) {
		return errSlow
	}
	return p.server.Flush()
}

// writeReason says why writing to a receiver failed; otherwise is the reason if it is gone.
func writeReason(err error, otherwise mesh.Reason) mesh.Reason {
	if errors.Is(err, errSlow) {
		return mesh.ReasonOverload
	}
	return otherwise
}
