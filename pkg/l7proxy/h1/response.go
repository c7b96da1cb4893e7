package h1

import (
	"errors"
	"io"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/endpoints"
	"github.com/underlane/underlane/pkg/l7proxy/http1"
	"github.com/underlane/underlane/pkg/l7proxy/reply"
	"github.com/underlane/underlane/pkg/l7proxy/request"
	"github.com/underlane/underlane/pkg/mesh"
)

// head is the result of an attempt: the head of the response, or why there is none.
type head struct {
	up     *appConn
	pump   *pump
	length int           // of the head, which is at the start of up.In
	heard  time.Duration // when the head came, by monotime.Now
	reason mesh.Reason   // why there is no response; ReasonNone: there is one
	cut    bool          // with reason: reading failed, rather than the endpoint ended its side
	err    error         // why the request could not be sent; up is nil then
	// neverSent, with reason: up had ended before a byte of the request was sent.
	neverSent bool
	// unreached is why the request may be sent to another endpoint: no application has
	// seen it, or the one that has is gone and the request can be repeated. ReasonNone: it
	// may not.
	unreached mesh.Reason
}

// missed judges the response in d.resp.
func (d *sender) missed(a *endpoints.Attempt, h head, kind http1.Kind) request.Miss {
	if h.reason != mesh.ReasonNone || d.interim {
		return request.Miss{}
	}
	return request.Missed(a, kind&http1.KindGRPC != 0, d.resp.Status(), unsafeString(d.resp.Get(reply.ReasonHeader)))
}

// reasonField is removed from the responses of applications.
var reasonField = []string{reply.ReasonHeader}

// respond sends the response to the client, or one of the proxy's own if there is none.
// It reports whether the endpoint's connection can be used again, and clears keep if the
// client's cannot. When it returns, the pump has ended.
func (d *session) respond(h head, kind http1.Kind, keep *bool) (reuse bool, end request.End) {
	up, pump, n, reason := h.up, h.pump, h.length, h.reason
	if reason != mesh.ReasonNone {
		d.endWait()
		up.Close()
		reason = pump.blame(reason)
		if pump != nil || d.s.Paired() {
			*keep = false
		}
		answer := reply.Of(reason)
		d.out = reply.AppendHTTP1(d.out[:0], &answer, kind, !*keep)
		if len(d.out) == 0 { // the client has ended its side inside its request, or is gone
			*keep = false
			if h.cut {
				_ = d.s.Client.Reset()
			}
		} else if d.write(d.out, nil, true) != nil {
			*keep = false
		} else if !*keep {
			d.linger()
		}
		return false, request.End{Reason: reason, GRPCStatus: reason.GRPCCode()}
	}
	if d.resp.Status() >= 400 {
		d.x.PeerReason(string(d.resp.Get(reply.ReasonHeader)))
		if d.resp.BindsConnection() {
			d.s.BindLogin(d.plan.Random)
		}
	}
	if at, ok := pump.uploadedAt(); ok {
		d.x.UploadedAt(at)
	}
	if cap(d.out) > keepOut {
		d.out = nil // the request, which is not sent again
	}
	if pump == nil {
		d.dropRequest()
	}
	d.x.Head1(&d.resp)
	d.x.ResponseAt(d.resp.Status(), h.heard)
	body := d.x.Body1(&d.resp)
	if body.Kind() == http1.BodyTunnel {
		*keep = false
		return false, d.tunnel(up, pump, n)
	}
	oldEnd := d.resp.Minor() == 0 && !d.resp.KeepAlive() // HTTP/1.0: the client expects the connection to end
	if body.NeedsClose() || oldEnd || d.cutsRequest(pump) {
		*keep = false
	}
	reuse = d.resp.KeepAlive() && !body.NeedsClose()
	if !reuse && d.s.Paired() {
		*keep = false
	}
	edits := http1.Edits{Connection: connectionField(kind, *keep)}
	d.editResponse(&edits)
	if d.s.Direction == mesh.Inbound && len(d.resp.Get(reply.ReasonHeader)) > 0 {
		edits.Remove = reasonField
	}
	up.In = up.In[n:]
	reason = d.responseBody(up, &edits, &body, pump)
	d.x.Trailers1(&body)
	if reason != mesh.ReasonNone {
		// The head was sent. Only a reset can tell the client that the response is incomplete.
		_ = d.s.Client.Reset()
		reuse, *keep = false, false
	}
	switch {
	case pump == nil:
	case reason != mesh.ReasonNone:
		reason = pump.blame(reason)
	case !d.finishRequest(up, pump, keep):
		reuse = false
	}
	if reason == mesh.ReasonClientReset {
		_ = up.Reset() // a FIN would mean that the client has ended its side
	}
	return reuse, request.End{Reason: reason, ResponseLen: uint64(body.Payload()), Reset: reason != mesh.ReasonNone}
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

// readResponse reads the head of the final response into h, and forwards interim responses
// before it. Their number is not limited: each costs the server as much as the proxy.
func (d *sender) readResponse(h *head, kind http1.Kind) {
	up := h.up
	d.resp.Reset()
	d.interim = false
	for {
		if len(up.In) > 0 {
			n, err := http1.ParseResponse(up.In, &d.resp, kind)
			if err != nil {
				h.reason = badResponse(err)
				return
			}
			if n > 0 && !d.resp.Interim() {
				h.length = n
				return
			}
			if n > 0 {
				d.interim = true
				up.In = up.In[n:]
				if kind&http1.KindHTTP10 == 0 {
					d.out = http1.AppendResponseHead(d.out[:0], &d.resp, &http1.Edits{})
					if err := d.write(d.out, up, false); err != nil {
						h.reason = writeReason(err, mesh.ReasonClientReset)
						return
					}
				}
				continue
			}
		}
		if len(up.In) > 0 || d.interim {
			conn.QuickAckPartial(up, up.LastRead)
		}
		if err := d.readUpstream(up); err != nil {
			h.reason, h.cut = d.readReason(err), err != io.EOF || h.pump != nil && up.Cut()
			h.neverSent = h.reason != mesh.ReasonClientReset && neverSent(err) && d.wasCut() == mesh.ReasonNone
			return
		}
	}
}

// readUpstream appends bytes of the endpoint to up.In, which lies in d.respBuf. While it
// waits for an endpoint of which nothing is left to be read, it holds no buffer.
func (d *sender) readUpstream(up *appConn) error {
	if len(up.In) == 0 {
		d.putRespBuf(up)
		if err := up.Await(); err != nil {
			return err
		}
		if buf, n := up.Lent(); n > 0 {
			d.respBuf, up.In, up.LastRead = buf, (*buf)[:n], n
			return nil
		}
		d.respBuf = conn.GetBuffer()
		up.In = (*d.respBuf)[:0]
	} else if len(up.In) == cap(up.In) {
		if len(up.In) >= len(*d.respBuf) {
			bigger := make([]byte, 2*len(*d.respBuf))
			d.respBuf = &bigger
		}
		up.In = (*d.respBuf)[:copy(*d.respBuf, up.In)]
	}
	n, err := up.Read(up.In[len(up.In):cap(up.In)])
	if up.Held() {
		return errUnasked
	}
	up.In, up.LastRead = up.In[:len(up.In)+n], n
	if n > 0 {
		return nil
	}
	return err
}

// errUnasked: the TLS layer had bytes of a response before the request was sent. They are
// not the response to this request.
var errUnasked = errors.New("the endpoint sent a response before the request")

// writeClient sends a part of the response. With the last one the client may take the
// exchange for complete, and close its connection: that is not passed on to the endpoint,
// whose connection serves other requests.
func (d *session) writeClient(p []byte, up *appConn, last bool) mesh.Reason {
	if last {
		if why := d.answers(true); why != mesh.ReasonNone {
			return why
		}
	}
	if err := d.write(p, up, true); err != nil {
		return writeReason(err, mesh.ReasonClientReset)
	}
	return mesh.ReasonNone
}

// responseBody sends the head, with edits, and the body after it. The part of the body that
// arrived with the head goes out in the same write.
func (d *session) responseBody(up *appConn, edits *http1.Edits, body *http1.Body, pump *pump) mesh.Reason {
	n, _, err := body.Next(up.In)
	if !body.Done() {
		conn.QuickAckPartial(up, up.LastRead)
	}
	last := body.Done() && !pump.running()
	if !last && d.s.Direction == mesh.Inbound {
		if why := d.answers(false); why != mesh.ReasonNone {
			return why
		}
	}
	// In a buffer of the pool, because that was used a moment ago. With many connections, memory of
	// the session's own would be in no cache of the processor.
	d.joined = conn.GetBuffer()
	out := append(http1.AppendResponseHead((*d.joined)[:0], &d.resp, edits), up.In[:n]...)
	up.In = up.In[n:]
	if why := d.writeClient(out, up, last); why != mesh.ReasonNone {
		return why
	}
	for err == nil && !body.Done() {
		if wait := d.replyPace.due(body, d.s.Quota); wait > 0 {
			rest(wait, &d.s.Task, func() bool { _, gone := d.s.Client.PeerClosed(); return gone })
		}
		rerr := d.readUpstream(up)
		if rerr == io.EOF {
			if body.Finish() != nil || pump != nil && up.Cut() {
				return mesh.ReasonUpstreamReset
			}
			return mesh.ReasonNone
		}
		if rerr != nil {
			return d.readReason(rerr)
		}
		n, _, err = body.Next(up.In)
		if !body.Done() {
			conn.QuickAckPartial(up, up.LastRead)
		}
		now := up.In[:n]
		up.In = up.In[n:]
		if why := d.writeClient(now, up, body.Done() && !pump.running()); why != mesh.ReasonNone {
			return why
		}
	}
	if err != nil {
		return badResponse(err)
	}
	return mesh.ReasonNone
}

// badResponse returns the reason for an error of package http1 about a response.
func badResponse(err error) mesh.Reason {
	if errors.Is(err, http1.ErrHeaderTooLarge) {
		return mesh.ReasonResponseHeader
	}
	return mesh.ReasonBadResponse
}
