package h1

import (
	"bytes"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/http1"
	"github.com/underlane/underlane/pkg/l7proxy/request"
	"github.com/underlane/underlane/pkg/mesh"
)

// tunnel sends a 101 response, or a 2xx response to CONNECT, and relays the bytes that
// follow in both directions. They are not messages any more.
func (d *session) tunnel(up *appConn, pump *pump, n int) request.End {
	if why := d.beginTunnel(); why != mesh.ReasonNone {
		_, _ = d.s.Client.Reset(), up.Reset()
		return request.End{Reason: why, Reset: true}
	}
	d.unlimit(up)
	if pump.stop(lingerTime) != mesh.ReasonNone || !d.body.Done() {
		_ = d.s.Client.Reset()
		return request.End{Reason: mesh.ReasonClientReset, Reset: true}
	}
	d.out = http1.AppendResponseHead(d.out[:0], &d.resp, &http1.Edits{})
	d.out = append(d.out, up.In[n:]...)
	r := conn.Relay{Client: d.s.Client, Server: up, Task: &d.s.Task, Budget: d.s.Quota}
	r.ToServer.Add(uint64(len(d.in)))
	r.ToClient.Add(uint64(len(up.In) - n))
	in, out := bytes.Clone(d.in), d.out
	d.dropBuffers(up) // a tunnel may be idle for long
	reason := r.Run(in, out)
	return request.End{Reason: reason, ResponseLen: r.ToClient.Load(), Reset: reason != mesh.ReasonNone}
}
