package paths

import (
	"context"
	"maps"
	"time"

	"github.com/underlane/underlane/pkg/redirect"
)

const (
	// sweepEvery is how often the table is compared with the kernel, and what is not used is
	// forgotten.
	sweepEvery = 10 * time.Second
	// forgetAfter is how long a destination that is not settled stays in the table unused.
	forgetAfter = time.Minute
	// again is how long after a denial its connections are looked for once more: one may have
	// been on its way to the endpoint when the others were cut.
	again = time.Second
	// avoidFor is how long the proxy has a destination whose endpoint the kernel could not
	// reach: long enough to find out whether it can.
	avoidFor = 10 * time.Second
	// rest limits the work while the state changes all the time: after a judgement of all
	// entries the table waits so many times as long as the judgement took. Judgements then
	// take a tenth of a processor at most.
	rest = 9
)

// Run keeps the paths in k until ctx is done. It begins with those that an earlier agent has
// left. It leaves them to the next one: the kernel follows them only while an agent lives.
// Redirects may be nil.
func (t *Table) Run(ctx context.Context, k Kernel, r Redirects) error {
	t.mu.Lock()
	t.kernel, t.redirects, t.told = k, r, nil
	t.mu.Unlock()
	changes, cancel := t.State.Watch()
	defer cancel()
	t.sweep()
	t.recall()
	sweep := time.NewTicker(sweepEvery)
	defer sweep.Stop()
	look := time.NewTimer(0)
	defer look.Stop()
	var free time.Time // when the next judgement of all may begin
	for {
		select {
		case <-ctx.Done():
			return nil
		case u := <-t.used:
			t.add(u)
		case k := <-t.lost:
			t.fail(k)
		case <-changes:
			look.Reset(time.Until(free))
		case <-look.C:
			began := time.Now()
			denied := t.judgeAll()
			took := time.Since(began)
			free = began.Add(took * (1 + rest))
			if denied {
				look.Reset(max(again, time.Until(free)))
			}
		case <-sweep.C:
			t.sweep()
		}
	}
}

// Withdraw takes all paths from the kernel, while Run does not run. The next Run gives those back
// that are settled then.
func (t *Table) Withdraw() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.entries {
		if e.set {
			t.unset(e)
		}
	}
}

// judgeAll judges all entries, and then ends the connections that no policy allows any more.
// It returns whether there were any.
func (t *Table) judgeAll() (denied bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for k, e := range t.entries {
		t.judge(k, e)
	}
	t.tell()
	view := t.State.View()
	for f, server := range t.open {
		client, ok := view.WorkloadByUID(f.client)
		if !ok {
			continue
		}
		to, ok := view.WorkloadByUID(server)
		if !ok {
			continue
		}
		err := t.Judge.MayConnect(client, to, f.endpoint)
		if err == nil {
			continue
		}
		n, failure := t.Pods.CutDirect(f.client, f.endpoint)
		if n > 0 {
			denied = true
			t.cuts.Add(uint64(n))
			t.Log.Debug("connections of the kernel path cut: the policy of the pod has changed",
				"client", f.client, "destination", f.endpoint, "connections", n, "cause", err)
		}
		if failure != nil {
			denied = true
			t.Log.Error("connections of the kernel path cannot be cut, and the policy does not allow them any more",
				"client", f.client, "destination", f.endpoint, "cause", failure)
		}
	}
	return denied
}

// tell says which pods have paths, if that has changed. A pod that a NetworkPolicy selects has
// none (destination.Settled). mu is held.
func (t *Table) tell() {
	if t.redirects == nil {
		return
	}
	pods := map[uint64]bool{}
	for _, e := range t.entries {
		if e.set {
			pods[e.path.Client], pods[e.path.Server] = true, true
		}
	}
	if t.told != nil && maps.Equal(t.told, pods) {
		return
	}
	t.told = pods
	t.redirects.Want(maps.Clone(pods))
}

// recall notes the open connections of an earlier agent: the paths that they have taken may
// have been deleted before it ended, and a policy may not allow them any more.
func (t *Table) recall() {
	list, err := t.kernel.Flows()
	if err != nil {
		t.Log.Error("some connections of an earlier agent on the kernel path are not known: a policy that does not allow them will not end them", "cause", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range list {
		client, server := t.Pods.ByCookie(f.Client), t.Pods.ByCookie(f.Server)
		if client != nil && server != nil {
			t.open[flow{client.UID, f.Endpoint}] = server.UID
		}
	}
}

// adopt notes a path that the kernel has, and judges it. False: one of its pods is not of
// this agent. mu is held.
func (t *Table) adopt(p redirect.Path) bool {
	client, server := t.Pods.ByCookie(p.Client), t.Pods.ByCookie(p.Server)
	if client == nil || server == nil {
		return false
	}
	k := key{client.UID, p.Dst}
	e := t.entries[k]
	if e == nil {
		if len(t.entries) >= maxEntries {
			return false
		}
		e = &entry{last: time.Now()}
		t.entries[k] = e
		t.ofPod[k.client]++
	}
	e.path, e.set, e.found = p, true, true
	t.open[flow{k.client, p.Endpoint}] = server.UID
	t.judge(k, e)
	return true
}

// sweep takes over paths of an earlier agent, deletes those of pods that are not enrolled,
// restores those that another program has deleted, and forgets what is not used.
func (t *Table) sweep() {
	t.mu.Lock()
	defer t.mu.Unlock()
	list, err := t.kernel.Paths()
	if err != nil {
		t.Log.Error("the paths in the kernel cannot be compared with those that should be there", "cause", err)
		return
	}
	for _, e := range t.entries {
		e.found = false
	}
	for _, p := range list {
		if !t.adopt(p) {
			_ = t.kernel.DeletePath(p.PathKey) // it is tried again
		}
	}
	for k, e := range t.entries {
		if e.set && !e.found { // another program has deleted it
			e.set = false
			t.judge(k, e)
		}
	}
	current := make(map[flow]bool)
	for k, e := range t.entries {
		if e.set {
			if _, enrolled := t.Pods.Cookie(k.client); enrolled {
				current[flow{k.client, e.path.Endpoint}] = true
				continue
			}
			t.unset(e)
		}
		if !e.set && time.Since(e.last) > forgetAfter {
			delete(t.entries, k)
			if t.ofPod[k.client]--; t.ofPod[k.client] == 0 {
				delete(t.ofPod, k.client)
			}
		}
	}
	t.tell()
	for f := range t.open {
		if current[f] {
			continue
		}
		if n, err := t.Pods.DirectTo(f.client, f.endpoint); err == nil && n == 0 {
			delete(t.open, f)
		}
	}
}
