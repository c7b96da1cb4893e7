package h1

import (
	"sync"

	"github.com/underlane/underlane/pkg/l7proxy/destination"
	"github.com/underlane/underlane/pkg/l7proxy/http1"
	"github.com/underlane/underlane/pkg/l7proxy/quota"
	"github.com/underlane/underlane/pkg/l7proxy/request"
	"github.com/underlane/underlane/pkg/l7proxy/upstream"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
	"github.com/underlane/underlane/pkg/policy/calls"
)

// underway is what policies that change need of the current request. phase.mu guards it.
type underway struct {
	kept   *kept        // nil: no policy and no EgressNetwork looked at the request when it was let through
	headed bool         // a part of the response was sent, and more follows
	whole  bool         // all of the response was sent or is being sent
	tunnel bool         // the session carries bytes that are no messages any more
	cut    mesh.Reason  // why the request was ended; ReasonNone: it was not
	by     *calls.Entry // what has decided that; nil: it is not said
}

// kept is a request as its policies look at it.
type kept struct {
	rules   *authz.Workload // by which it was let in; nil: none looked at it
	leaving destination.Leaving
	head    []byte // as it came; empty: it is not kept
	charged quota.Charge
	said
}

// keptBuffer is the largest head, in bytes, whose buffer is used again.
const keptBuffer = 4 << 10

var keeps = sync.Pool{New: func() any { return new(kept) }}

// keepRequest keeps the current request, which was let through, if policies or an EgressNetwork
// have looked at it.
func (d *session) keepRequest() {
	rules := d.first.Rules
	leaving := request.Leaving(d.s, &d.plan, &d.first)
	if rules == nil && leaving == nil {
		return
	}
	k := keeps.Get().(*kept)
	k.rules, k.said, k.head = rules, d.said, k.head[:0]
	if leaving != nil {
		k.leaving = *leaving
	}
	if head := d.req.Bytes(); (rules != nil || k.leaving.By.LooksAtRequests()) && request.KeepsHead(len(head), d.s.Quota) {
		k.head = append(k.head, head...)
		k.charged.Set(cap(k.head), d.s.Quota)
	}
	d.pending = true
	d.phase.mu.Lock()
	d.phase.kept = k
	d.phase.mu.Unlock()
}

// over notes the end of the exchange: the watch leaves the endpoint's connection alone, and
// policies leave the session alone. It may be called again. Most exchanges were ended by
// answers already: then over takes no lock.
func (d *session) over() {
	if !d.pending {
		return
	}
	d.pending = false
	d.phase.mu.Lock()
	k := d.phase.kept
	d.phase.waits, d.phase.underway = nil, underway{}
	d.phase.mu.Unlock()
	if k == nil {
		return
	}
	k.charged.Set(0, d.s.Quota)
	k.rules, k.leaving, k.said = nil, destination.Leaving{}, said{}
	if cap(k.head) > keptBuffer {
		k.head = nil
	}
	keeps.Put(k)
}

// answers notes that the response begins to be sent, or with last set that all of it is: the
// client may then take the exchange for complete. If the request was cut before, answers
// returns the reason.
func (d *link) answers(last bool) mesh.Reason {
	d.phase.mu.Lock()
	defer d.phase.mu.Unlock()
	if d.phase.cut != mesh.ReasonNone {
		return d.phase.cut
	}
	switch {
	case !last:
		d.phase.headed = true
	case d.phase.kept == nil:
		// Without a wait and a kept request there is nothing that Rejudge would end.
		d.phase.waits, d.phase.underway, d.pending = nil, underway{}, false
	default:
		d.phase.headed, d.phase.whole, d.phase.waits = true, true, nil
	}
	return mesh.ReasonNone
}

// beginTunnel notes that a tunnel begins: its relay reads from the client, and sees when it
// has gone. If the request was cut before, beginTunnel returns the reason.
func (d *link) beginTunnel() mesh.Reason {
	d.pending = true
	d.phase.mu.Lock()
	defer d.phase.mu.Unlock()
	d.phase.tunnel, d.phase.waits = true, nil
	return d.phase.cut
}

// wasCut returns why the current request was ended; ReasonNone: it was not.
func (d *link) wasCut() mesh.Reason {
	d.phase.mu.Lock()
	defer d.phase.mu.Unlock()
	return d.phase.cut
}

// noteCut records for the events of the exchange why it was cut, if it was. end may be nil.
func (d *session) noteCut(end *request.End) {
	d.phase.mu.Lock()
	defer d.phase.mu.Unlock()
	if d.phase.cut == mesh.ReasonNone {
		return
	}
	if end != nil {
		end.Reason = d.phase.cut
	}
	if d.phase.by != nil {
		d.x.Judged(d.phase.by)
	}
}

// Underway returns the sessions that of reports.
func (r *Driver) Underway(of func(*request.Session) bool) (out []request.Underway) {
	r.sessions.Each(func(d *session) {
		if of(d.s) {
			out = append(out, d)
		}
	})
	return out
}

// Rejudge implements request.Underway. A request of whose response nothing was sent is
// answered with the reason. Otherwise only a reset tells the client that it was cut.
func (d *session) Rejudge(judge request.Judge) (cut int) {
	ph := &d.phase
	ph.mu.Lock()
	defer ph.mu.Unlock()
	if ph.cut != mesh.ReasonNone || ph.whole || ph.kept == nil && ph.waits == nil && !ph.tunnel {
		return 0
	}
	now := judge(d.s, ph.kept.underway())
	if now.Err == nil {
		if ph.kept != nil {
			ph.kept.rules, ph.kept.leaving.By = now.Rules, now.By
		}
		return 0
	}
	ph.cut, ph.by = upstream.ReasonOf(now.Err), now.Entry
	if ph.headed || ph.tunnel {
		d.s.Revoke(ph.cut)
	}
	if ph.waits != nil {
		ph.cancel()
	}
	return 1
}

// underway describes the request. Of nil nothing is known.
func (k *kept) underway() (u destination.Underway) {
	if k == nil {
		return u
	}
	u.Rules, u.Leaving = k.rules, k.leaving
	a := &asking{said: k.said}
	if n, err := http1.ParseRequest(k.head, &a.req); n > 0 && err == nil {
		asked := routeRequest(&a.req)
		u.Asked, u.Leaving.Asked = a, &asked
	}
	return u
}
