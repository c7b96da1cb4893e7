package server

import "time"

// urgency says how long something may wait for what else there is for an agent.
type urgency uint8

const (
	// atOnce: an endpoint that is gone, a policy, a pod's identity or enrolment, and all that
	// is not named below.
	atOnce urgency = iota
	// soon: a Service that has lost nothing, which has more endpoints, for instance. An agent that
	// was sent nothing for gatherSoon gets it at once. So the faster changes come for an
	// agent, the more of them are in a delta.
	soon
	// later: a pod on another node is ready, or is not ready any more, and nothing else about it
	// has changed. Whether requests go to it is said by the Services that have it, whose change
	// comes a moment later, and both are in one delta then.
	later

	gatherings = 3
)

// How long what can wait may wait.
const (
	gatherSoon  = 50 * time.Millisecond
	gatherLater = time.Second
)

var gatherFor = [gatherings]time.Duration{soon: gatherSoon, later: gatherLater}

// round is what one publication does to a fanout, which is locked.
type round struct {
	*fanout
	now   time.Time
	woken []*follower
}

// tell tells streams what has changed for them.
func (r *round) tell(to followers, m mention, w wide, u urgency) {
	for f := range r.each(to) {
		r.tellOne(f, m, w, u)
	}
}

func (r *round) tellOne(f *follower, m mention, w wide, u urgency) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.news.add(m, w)
	switch {
	case f.awake:
	case u == atOnce || u == soon && r.now.Sub(f.sent) >= gatherSoon:
		f.awake = true
		r.woken = append(r.woken, f)
	case !f.waits[u]:
		f.waits[u] = true
		r.wait(f, u)
	}
}

// wait has f woken after the time that u allows, with all others that wait for the same.
func (o *fanout) wait(f *follower, u urgency) {
	if len(o.waiting[u]) == 0 {
		time.AfterFunc(gatherFor[u], func() { o.release(u) })
	}
	o.waiting[u] = append(o.waiting[u], f)
}

// release wakes the streams that have waited.
func (o *fanout) release(u urgency) {
	o.mu.Lock()
	all := o.waiting[u]
	o.waiting[u] = nil
	o.mu.Unlock()
	for _, f := range all {
		f.mu.Lock()
		f.waits[u] = false
		wake := !f.awake && !f.news.empty()
		f.awake = f.awake || wake
		f.mu.Unlock()
		if wake {
			f.look()
		}
	}
}

// look wakes the stream.
func (f *follower) look() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}
