package h1

import (
	"time"

	"github.com/underlane/underlane/pkg/mesh"
)

// An early response is one whose request's body has not gone through yet. Whether the
// client's connection goes on after it is for the endpoint to say, as without the mesh:
// one that says close does not want the rest of the body.

// cutsRequest reports whether the response, whose head is in d.resp, is an early one
// after which the client's connection ends.
func (d *session) cutsRequest(p *pump) bool {
	return p.running() && !d.resp.KeepAlive() || p.failed()
}

// finishRequest waits for the rest of the request's body when the response is through,
// and reports whether all of it went to the endpoint. It clears keep where the client's
// connection cannot be used again.
func (d *session) finishRequest(up *appConn, p *pump, keep *bool) (whole bool) {
	if *keep {
		d.awaitEnd(up, p)
	} else {
		// The client was told that this is the end, and sees it at once. What it still
		// sends goes to the endpoint as long as that reads (RFC 9112 §9.6).
		_ = d.s.Client.CloseWrite()
	}
	why := p.stop(lingerTime)
	if why == mesh.ReasonNone && d.body.Done() {
		return true
	}
	// The endpoint takes no more of the request. Where the client was told that its
	// connection goes on, the rest is read away, and it does.
	*keep = *keep && why != mesh.ReasonClientReset && why != mesh.ReasonBadRequest && d.discardBody()
	if !*keep {
		d.linger()
	}
	return false
}

// awaitEnd waits until the pump has ended, however long the client takes, or the endpoint
// has: its connection ends, or has bytes that belong to no response.
func (d *session) awaitEnd(up *appConn, p *pump) {
	if len(up.In) > 0 || !p.running() {
		return
	}
	woken := make(chan struct{})
	go func() {
		defer close(woken)
		<-p.done
		_ = up.SetReadDeadline(aLongTimeAgo)
	}()
	n, _ := up.Read(*d.respBuf)
	up.In = (*d.respBuf)[:n]
	p.stop(lingerTime)
	<-woken
	_ = up.SetReadDeadline(time.Time{})
}
