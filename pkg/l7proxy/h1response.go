package l7proxy

import (
	"errors"
	"io"

	"github.com/underlane/underlane/pkg/l7proxy/http1"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

// head is how an attempt got as far as the head of the response.
type head struct {
	up     *h1Upstream
	pump   *pump
	length int         // of the head, at the start of up.in
	reason mesh.Reason // why there is none
	err    error       // why the request could not even be sent
	// unreached says why another endpoint may be asked instead: no application
	// has seen the request.
	unreached mesh.Reason
}

// notConnected is a failure to connect: nothing was sent.
type notConnected struct{ error }

func (e notConnected) Unwrap() error { return e.error }

// unsent is the reason of a failure before anything was sent, ReasonNone
// otherwise.
func unsent(err error) mesh.Reason {
	if errors.As(err, new(notConnected)) {
		return reasonOf(err)
	}
	return mesh.ReasonNone
}

// unreached is why the agent of the endpoint's node could not give the request
// to the application, ReasonNone where the application answered. Only an agent
// can say so: it takes the field out of what applications answer.
func (d *h1) unreached(choice *Choice, h head) mesh.Reason {
	if h.reason != mesh.ReasonNone || d.interim || choice.TLS != tap.TLSTrue || d.resp.Status() < 500 {
		return mesh.ReasonNone
	}
	if why := mesh.ParseReason(string(d.resp.Get(http1.ReasonHeader))); why.Unreached() {
		return why
	}
	return mesh.ReasonNone
}

// reasonField is taken out of the responses of applications.
var reasonField = []string{http1.ReasonHeader}

// respond brings the response to the client. It reports whether the endpoint's
// connection can be used again, clears keep where the client's cannot, and
// never returns before the pump has.
func (d *h1) respond(h head, kind http1.Kind, keep *bool) (reuse bool, end End) {
	up, pump, n, reason := h.up, h.pump, h.length, h.reason
	if reason != mesh.ReasonNone {
		d.endWait()
		up.conn.Close()
		switch sent := pump.stop(0); sent {
		case mesh.ReasonClientReset, mesh.ReasonBadRequest:
			reason = sent
		}
		if pump != nil || d.s.bound() { // a login ended with the endpoint's connection
			*keep = false
		}
		d.out = http1.AppendSynthetic(d.out[:0], reason, kind, !*keep)
		if _, err := d.s.Client.Write(d.out); err != nil || len(d.out) == 0 {
			*keep = false
		} else if !*keep {
			d.linger()
		}
		return false, End{Reason: reason, GRPCStatus: reason.GRPCCode()}
	}
	if d.resp.Status() >= 400 {
		d.x.Said(string(d.resp.Get(http1.ReasonHeader)))
		if d.resp.BindsConnection() {
			d.s.bind(d.plan.draw)
		}
	}
	d.x.Response(d.resp.Status())
	body := d.resp.Body()
	if body.Kind() == http1.BodyTunnel {
		*keep = false
		return false, d.tunnel(up, pump, n)
	}
	if body.NeedsClose() || pump.failed() {
		*keep = false
	}
	reuse = d.resp.KeepAlive() && !body.NeedsClose()
	if !reuse && d.s.bound() {
		*keep = false // the login ends with the endpoint's connection, and the client is to know
	}
	edits := http1.Edits{Connection: connectionField(kind, *keep)}
	d.editResponse(&edits)
	if d.s.Direction == mesh.Inbound && len(d.resp.Get(http1.ReasonHeader)) > 0 {
		edits.Remove = reasonField
	}
	d.out = http1.AppendResponseHead(d.out[:0], &d.resp, &edits)
	up.in = up.in[n:]
	reason = d.responseBody(up, &body)
	if reason != mesh.ReasonNone {
		// The head is out: all that can be said is that the stream was cut.
		reset(d.s.Client)
		reuse, *keep = false, false
	}
	if pump != nil {
		grace := lingerTime
		if reason != mesh.ReasonNone {
			grace = 0
		}
		if pump.stop(grace) != mesh.ReasonNone {
			reuse, *keep = false, false
			if reason == mesh.ReasonNone {
				d.linger() // the client may still be sending: it must not lose the response to a reset
			}
		}
	}
	return reuse, End{Reason: reason, ResponseLen: uint64(body.Payload()), Reset: reason != mesh.ReasonNone}
}

func connectionField(kind http1.Kind, keep bool) http1.Connection {
	switch {
	case !keep:
		return http1.ConnectionClose
	case kind&http1.KindHTTP10 != 0:
		return http1.ConnectionKeepAlive
	}
	return http1.ConnectionDefault
}

// readResponse reads the final response's head, n bytes at the start of up.in,
// and forwards interim ones on the way.
func (d *h1) readResponse(up *h1Upstream, kind http1.Kind) (n int, reason mesh.Reason) {
	d.resp.Reset()
	d.interim = false
	for interim := 0; interim < interimAtMost; {
		if len(up.in) > 0 {
			n, err := http1.ParseResponse(up.in, &d.resp, kind)
			if err != nil {
				return 0, mesh.ReasonBadResponse
			}
			if n > 0 && !d.resp.Interim() {
				return n, mesh.ReasonNone
			}
			if n > 0 {
				d.interim = true
				if kind&http1.KindHTTP10 == 0 {
					d.out = http1.AppendResponseHead(d.out[:0], &d.resp, &http1.Edits{})
					if _, err := d.s.Client.Write(d.out); err != nil {
						return 0, mesh.ReasonClientReset
					}
				}
				up.in = up.in[n:]
				interim++
				continue
			}
		}
		if len(up.in) > 0 || d.interim {
			awaitRest(up.conn, up.got)
		}
		if err := d.readUpstream(up); err != nil {
			return 0, d.readReason(err)
		}
	}
	return 0, mesh.ReasonBadResponse
}

// interimAtMost bounds the 1xx responses before the final one.
const interimAtMost = 32

// readUpstream adds bytes of the endpoint to up.in, which lies in d.back.
func (d *h1) readUpstream(up *h1Upstream) error {
	if len(up.in) == 0 {
		up.in = (*d.back)[:0]
	} else if len(up.in) == cap(up.in) {
		if len(up.in) >= len(*d.back) {
			bigger := make([]byte, 2*len(*d.back))
			d.back = &bigger
		}
		up.in = (*d.back)[:copy(*d.back, up.in)]
	}
	n, err := up.conn.Read(up.in[len(up.in):cap(up.in)])
	if up.raw != nil && up.raw.Held() {
		return errUnasked
	}
	up.in, up.got = up.in[:len(up.in)+n], n
	if n > 0 {
		return nil
	}
	return err
}

// errUnasked: TLS had a response before the request was sent. It is not the
// response to this request.
var errUnasked = errors.New("the endpoint spoke before it was asked")

// responseBody writes d.out, the head, and the body after it. What came with
// the head goes out with it.
func (d *h1) responseBody(up *h1Upstream, body *http1.Body) mesh.Reason {
	n, _, err := body.Next(up.in)
	if !body.Done() {
		awaitRest(up.conn, up.got)
	}
	d.out = append(d.out, up.in[:n]...)
	up.in = up.in[n:]
	if _, werr := d.s.Client.Write(d.out); werr != nil {
		return mesh.ReasonClientReset
	}
	for err == nil && !body.Done() {
		rerr := d.readUpstream(up)
		if rerr == io.EOF {
			if body.Finish() != nil {
				return mesh.ReasonUpstreamReset
			}
			return mesh.ReasonNone
		}
		if rerr != nil {
			return d.readReason(rerr)
		}
		n, _, err = body.Next(up.in)
		if !body.Done() {
			awaitRest(up.conn, up.got)
		}
		if _, werr := d.s.Client.Write(up.in[:n]); werr != nil {
			return mesh.ReasonClientReset
		}
		up.in = up.in[n:]
	}
	if err != nil {
		return mesh.ReasonBadResponse
	}
	return mesh.ReasonNone
}

// tunnel carries what follows a 101 response, or a 2xx one to CONNECT: bytes
// both ways, no messages.
func (d *h1) tunnel(up *h1Upstream, pump *pump, n int) End {
	d.endWait() // the tunnel sees for itself when the client goes
	d.unlimit(up)
	if pump.stop(lingerTime) != mesh.ReasonNone {
		reset(d.s.Client)
		return End{Reason: mesh.ReasonClientReset, Reset: true}
	}
	d.out = http1.AppendResponseHead(d.out[:0], &d.resp, &http1.Edits{})
	d.out = append(d.out, up.in[n:]...)
	r := relay{client: d.s.Client, server: up.conn}
	r.toServer.Add(uint64(len(d.in)))
	r.toClient.Add(uint64(len(up.in) - n))
	reason := r.run(d.in, d.out)
	up.in = nil
	return End{Reason: reason, ResponseLen: r.toClient.Load(), Reset: reason != mesh.ReasonNone}
}
