// Package observed watches the connections of this node's pods that are not in the mesh, and
// are observed: it tells the kernel which they are, reads requests from what the kernel
// copies (pkg/observe), and gives them to tap, metrics and everybody else as those that the
// proxy carries.
package observed

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/observe"
	"github.com/underlane/underlane/pkg/redirect"
	"github.com/underlane/underlane/pkg/redirect/netns"
	"github.com/underlane/underlane/pkg/state"
	"github.com/underlane/underlane/pkg/tap"
)

// Kernel sees segments (redirect.Observer).
type Kernel interface {
	Observe(cookie uint64) error
	Leave(cookie uint64)
	Read(handle func(*redirect.Observation)) (n int, err error)
	Want(flow uint64, w redirect.Wish) error
	Close()
}

// Finder finds the network namespace of a pod (podns.Finder).
type Finder interface {
	Find(uid string, addrs []netip.Addr) (*netns.NS, error)
}

// Controller says whose addresses are (control/client.Client).
type Controller interface {
	Subscribe(addr netip.Addr)
	Resolve(ctx context.Context, addr netip.Addr) error
}

// Options are what a Watch works with.
type Options struct {
	State      *state.Store
	Finder     Finder
	Controller Controller
	Tap        tap.Sink
	Log        *slog.Logger
}

// Watch watches pods.
type Watch struct {
	Options
	pods   map[string]*pod // by UID; of Run
	events chan event
	status atomic.Pointer[Status]
	unsaid atomic.Uint64
}

// pod is a pod that is watched.
type pod struct {
	workload *mesh.Workload
	cookie   uint64
}

// Status is what a Watch does.
type Status struct {
	Pods   int // that are watched
	Wanted int // that should be
	Err    error
	Counts observe.Counts
	Unsaid uint64 // events that were lost because their readers were slow
}

// New returns a Watch of no pods yet.
func New(o Options) *Watch { return &Watch{Options: o, pods: make(map[string]*pod)} }

// Status returns what the Watch does, and why it does not if it should.
func (w *Watch) Status() Status {
	s := w.status.Load()
	if s == nil {
		return Status{}
	}
	out := *s
	out.Unsaid = w.unsaid.Load()
	return out
}

const (
	// poll is how often segments are read: the kernel wakes nobody.
	poll = 5 * time.Millisecond
	// again is how often a pod that was not found is looked for, and check how often all are.
	again = 500 * time.Millisecond
	check = 10 * time.Second
)

// Run watches the pods that the state says, by kernel, until ctx is done.
func (w *Watch) Run(ctx context.Context, kernel Kernel) error {
	defer kernel.Close()
	w.pods = make(map[string]*pod)
	w.events = make(chan event, maxEvents)
	var telling sync.WaitGroup
	telling.Go(func() { w.tell(ctx) })
	defer telling.Wait()
	defer close(w.events)
	changes, cancel := w.State.Watch()
	defer cancel()
	watcher := observe.New(observe.DefaultLimits, w.hear)
	var looked time.Time
	for timer := time.NewTimer(0); ; {
		changed := false
		select {
		case <-ctx.Done():
			return nil
		case <-changes:
			changed = true
		case <-timer.C:
		}
		pause := w.pause()
		if deep := time.Since(looked) >= pause; deep || changed {
			if deep {
				looked = time.Now()
				watcher.Sweep(monotonic())
			}
			w.follow(kernel, watcher, deep)
		}
		if len(w.pods) == 0 {
			timer.Reset(w.pause())
			continue
		}
		if err := w.read(kernel, watcher); err != nil {
			w.Log.Warn("what observed pods send cannot be read", "err", err)
		}
		timer.Reset(poll)
	}
}

// pause is how long it is until all pods are looked for again.
func (w *Watch) pause() time.Duration {
	if s := w.status.Load(); s != nil && s.Pods < s.Wanted {
		return again
	}
	return check
}

// read reads what has come.
func (w *Watch) read(kernel Kernel, watcher *observe.Watcher) error {
	var failed error
	for {
		n, err := kernel.Read(func(o *redirect.Observation) {
			s := observe.Segment(*o)
			if wish, changed := watcher.Take(&s); changed {
				if err := kernel.Want(o.Flow, redirect.Wish(wish)); err != nil {
					failed = err
				}
			}
		})
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
	}
	status := *w.status.Load()
	status.Counts = watcher.Counts()
	w.status.Store(&status)
	return failed
}

// follow watches the pods that the state says, and no others. If deep is set, it also looks
// whether those that did not change are where they were.
func (w *Watch) follow(kernel Kernel, watcher *observe.Watcher, deep bool) {
	view := w.State.View()
	if !view.Synced() {
		if w.status.Load() == nil {
			w.status.Store(&Status{})
		}
		return
	}
	wanted := make(map[string]*mesh.Workload)
	for _, local := range view.Local() {
		if local.Observed && !local.HostNetwork && len(local.Addrs) > 0 {
			wanted[local.UID] = local
		}
	}
	leave := func(uid string, p *pod) {
		kernel.Leave(p.cookie)
		watcher.Leave(p.cookie)
		delete(w.pods, uid)
		w.Log.Info("pod is not observed any more", "pod", p.workload.Namespace+"/"+p.workload.Name)
	}
	for uid, p := range w.pods {
		if wanted[uid] == nil {
			leave(uid, p)
		}
	}
	status := Status{Wanted: len(wanted), Counts: watcher.Counts()}
	for uid, local := range wanted {
		have := w.pods[uid]
		if have != nil {
			moved := !slices.Equal(have.workload.Addrs, local.Addrs)
			if have.workload = local; !deep && !moved {
				continue
			}
		}
		ns, err := w.Finder.Find(uid, local.Addrs)
		if err != nil {
			status.Err = err
			continue // it starts, or ends
		}
		cookie := ns.Cookie()
		_ = ns.Close()
		if have != nil && have.cookie == cookie {
			continue
		}
		if have != nil { // it has a new sandbox
			leave(uid, have)
		}
		if err := kernel.Observe(cookie); err != nil {
			if before := w.status.Load(); before == nil || before.Err == nil || before.Err.Error() != err.Error() {
				w.Log.Warn("pods cannot be observed", "cause", err)
			}
			status.Err = err
			continue
		}
		w.pods[uid] = &pod{workload: local, cookie: cookie}
		w.Log.Info("pod is observed", "pod", local.Namespace+"/"+local.Name)
	}
	status.Pods = len(w.pods)
	w.status.Store(&status)
}

// byCookie returns the pod with the network namespace; nil: it is not watched any more.
func (w *Watch) byCookie(cookie uint64) *mesh.Workload {
	for _, p := range w.pods {
		if p.cookie == cookie {
			return p.workload
		}
	}
	return nil
}

// watches reports whether an address is that of a pod that is watched here.
func (w *Watch) watches(addr netip.Addr) bool {
	for _, p := range w.pods {
		if slices.Contains(p.workload.Addrs, addr) {
			return true
		}
	}
	return false
}

// monotonic is the clock of the kernel's segments.
func monotonic() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
