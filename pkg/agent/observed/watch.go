// Package observed watches connections of this node's pods that no proxy carries: those of
// pods that are not in the mesh and are observed, by their label or for a moment, and those on
// the kernel path. It tells the kernel which they are, reads requests from what the kernel
// copies (pkg/observe), and gives them to tap, metrics and all other readers as those that the
// proxy carries.
package observed

import (
	"context"
	"log/slog"
	"net/netip"
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
	Observe(cookie uint64, scope redirect.Scope) error
	Leave(cookie uint64)
	Read(handle func(*redirect.Observation)) (n int, err error)
	Want(flow uint64, w redirect.Wish) error
	Missed() (uint64, error)
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
	Wanted     func(tap.Kind) bool // whether Tap needs events of a kind; nil: all
	Log        *slog.Logger
	// Paths returns the cookies, by UID, of the pods whose connections the kernel path may
	// take. nil: those are not watched.
	Paths func() map[string]uint64
}

// Watch watches pods.
type Watch struct {
	Options
	pods    map[string]*pod // by UID; of Run
	cookie  map[uint64]*pod // the same; of Run
	kick    chan struct{}   // makes Run look for the pods
	batch   []event         // of Run: events that the queue does not have yet
	queue   queue
	ends    ends      // of tell
	clock   clock     // of Run
	asked   time.Time // of Run: when the kernel was asked what was missed
	status  atomic.Pointer[Status]
	watched atomic.Pointer[watched] // nil: Run has not looked yet
	unsaid  atomic.Uint64
	missed  atomic.Uint64 // by the kernel

	mu    sync.Mutex
	looks map[*look]bool
}

// pod is a pod that is watched.
type pod struct {
	workload *mesh.Workload
	cookie   uint64
	scope    redirect.Scope
}

// Status is what a Watch does.
type Status struct {
	Pods   int // that are watched, without those that are only because of their kernel paths
	Wanted int // that should be
	Paths  int // pods that are watched because of their kernel paths
	Err    error
	Counts observe.Counts
	Unsaid uint64 // events that were lost because their readers were slow
}

// New returns a Watch of no pods yet.
func New(o Options) *Watch {
	return &Watch{Options: o, kick: make(chan struct{}, 1), looks: make(map[*look]bool), queue: queue{wake: make(chan struct{}, 1)}}
}

// Missed is how many segments and events were lost since the Watch was made, because the agent,
// or a reader of events, was slow, or because a pod has had its share. It is a second old at most
// while pods are watched.
func (w *Watch) Missed() uint64 { return w.missed.Load() + w.unsaid.Load() }

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
	// poll is how often segments are read while there are some, and rest while there were
	// none for a second: the kernel wakes no reader.
	poll = 5 * time.Millisecond
	rest = 25 * time.Millisecond
	// again is how often a pod that was not found is looked for, and the kernel paths are;
	// check is how often all are.
	again = 500 * time.Millisecond
	check = 10 * time.Second
)

// Run watches the pods that the state says, by kernel, until ctx is done.
func (w *Watch) Run(ctx context.Context, kernel Kernel) error {
	defer kernel.Close()
	w.pods, w.cookie = make(map[string]*pod), make(map[uint64]*pod)
	ctx, done := context.WithCancel(ctx)
	var telling sync.WaitGroup
	telling.Go(func() { w.tell(ctx) })
	defer telling.Wait()
	defer done()
	changes, cancel := w.State.Watch()
	defer cancel()
	watcher := observe.New(observe.DefaultLimits, w.hear)
	var looked, paths, seen time.Time
	for timer := time.NewTimer(0); ; {
		changed, asked := false, false
		select {
		case <-ctx.Done():
			return nil
		case <-changes:
			changed = true
		case <-w.kick:
			asked = true
		case <-timer.C:
		}
		now := time.Now()
		if now.Sub(paths) >= again && w.Paths != nil {
			paths, changed = now, true
		}
		if deep := asked || now.Sub(looked) >= w.pause(); deep || changed {
			if deep {
				looked = now
				watcher.Sweep(monotonic())
			}
			w.follow(kernel, watcher, deep)
		}
		next := min(w.pause(), again)
		if len(w.pods) > 0 {
			n, err := w.read(kernel, watcher)
			if err != nil {
				w.Log.Warn("what observed pods send cannot be read", "err", err)
			}
			if n > 0 {
				seen = now
			}
			if next = poll; now.Sub(seen) > time.Second {
				next = rest
			}
		}
		timer.Reset(next)
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
func (w *Watch) read(kernel Kernel, watcher *observe.Watcher) (seen int, failed error) {
	want := func(flow uint64, wish observe.Wish, changed bool) {
		if !changed {
			return
		}
		if err := kernel.Want(flow, redirect.Wish(wish)); err != nil {
			failed = err
		}
	}
	w.clock.set()
	for {
		n, err := kernel.Read(func(o *redirect.Observation) {
			if o.Opening != nil {
				opening := observe.Opening(*o.Opening)
				wish, changed := watcher.Open(o.Flow, o.Time, &opening)
				want(o.Flow, wish, changed)
				return
			}
			s := observe.Segment{
				Flow: o.Flow, Sent: o.Sent, Time: o.Time, Seq: o.Seq, Length: o.Length, Skipped: o.Skipped,
				Data: o.Data, Tail: o.Tail, Fin: o.Fin, Reset: o.Reset, Unwalked: o.Unwalked,
			}
			wish, changed := watcher.Take(&s)
			want(o.Flow, wish, changed)
		})
		w.hand()
		if err != nil {
			return seen, err
		}
		if n == 0 {
			break
		}
		seen += n
	}
	if now := time.Now(); now.Sub(w.asked) >= time.Second {
		w.asked = now
		if missed, err := kernel.Missed(); err == nil {
			w.missed.Store(missed)
		}
	}
	status := *w.status.Load()
	status.Counts = watcher.Counts()
	w.status.Store(&status)
	return seen, failed
}

// monotonic is the clock of the kernel's segments.
func monotonic() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
