package h1

import (
	"time"

	"github.com/underlane/underlane/pkg/mesh"
)

// A response is early if it begins before the whole body of its request was sent to the
// endpoint. The endpoint decides whether the client's connection persists after it, as
// without the mesh: a response that says close means that the endpoint does not want the
// rest of the body.

// cutsRequest reports whether the response in d.resp is early and ends the client's
// connection.
func (d *session) cutsRequest(p *pump) bool {
	return p.running() && !d.resp.KeepAlive() || p.failed()
}

// finishRequest is called after an early response was sent. It waits for the rest of the
// request's body, and reports whether all of it was sent to the endpoint. It clears keep
// if the client's connection cannot be used again.
func (d *session) finishRequest(up *appConn, p *pump, keep *bool) (whole bool) {
	if *keep {
		d.awaitEnd(up, p)
	} else {
		// The response said close, so the client gets the FIN at once. What it still sends
		// goes to the endpoint for as long as the endpoint reads (RFC 9112 §9.6).
		_ = d.s.Client.CloseWrite()
	}
	why := p.stop(lingerTime)
	if why == mesh.ReasonNone && d.body.Done() {
		return true
	}
	// The endpoint takes no more of the request. If the response has promised the client
	// that its connection persists, the rest of the request is discarded to keep that.
	*keep = *keep && why != mesh.ReasonClientReset && why != mesh.ReasonBadRequest && d.discardBody()
	if !*keep {
		d.linger()
	}
	return false
}

// awaitEnd waits without a time limit until the pump ends, or until the endpoint ends its
// connection or sends bytes that belong to no response.
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
	few := make([]byte, 1)
	n, _ := up.Read(few)
	up.In = few[:n]
	p.stop(lingerTime)
	<-woken
	_ = up.SetReadDeadline(time.Time{})
}
