package observed

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/redirect"
	"github.com/underlane/underlane/pkg/redirect/netns"
	"github.com/underlane/underlane/pkg/state"
	"github.com/underlane/underlane/pkg/tap"
)

// kernel is one that can refuse, which a real one cannot be asked to do.
type kernel struct {
	mu     sync.Mutex
	refuse error
	pods   map[uint64]redirect.Scope
	seen   []redirect.Observation
	wishes map[uint64]redirect.Wish
}

func (k *kernel) Observe(cookie uint64, scope redirect.Scope) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.refuse == nil {
		k.pods[cookie] = scope
	}
	return k.refuse
}

func (k *kernel) Leave(cookie uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.pods, cookie)
}

func (k *kernel) Read(handle func(*redirect.Observation)) (int, error) {
	k.mu.Lock()
	seen := k.seen
	k.seen = nil
	k.mu.Unlock()
	for i := range seen {
		handle(&seen[i])
	}
	return len(seen), nil
}

func (k *kernel) Want(flow uint64, w redirect.Wish) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.wishes[flow] = w
	return nil
}

func (k *kernel) Missed() (uint64, error) { return 0, nil }

func (k *kernel) Close() {}

// self finds the test's own namespace.
type self struct{}

func (self) Find(string, []netip.Addr) (*netns.NS, error) { return netns.Open("/proc/self/ns/net") }

// nobody is a controller that knows no address.
type nobody struct{}

func (nobody) Subscribe(netip.Addr)                      {}
func (nobody) Resolve(context.Context, netip.Addr) error { return nil }

type sink struct {
	mu     sync.Mutex
	events []tap.Event
}

func (s *sink) Emit(e *tap.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, *e)
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// TestWatch: a pod that is to be observed is, once the kernel lets; its requests are told with
// its workload; without the label it is left.
func TestWatch(t *testing.T) {
	store := state.NewStore("n1")
	pod := &mesh.Workload{UID: "u", Name: "shop", Namespace: "ns", Node: "n1", OwnerKind: "pod", OwnerName: "shop", Observed: true, Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}}
	apply := func(version uint64, w mesh.Workload) {
		t.Helper()
		err := store.Apply(state.Delta{Version: version, Synced: true, Resources: []state.Resource{{Name: state.WorkloadName(w.UID), Version: string(rune('0' + version)), Workload: &w}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	apply(1, *pod)
	k := &kernel{refuse: errors.New("no such program type"), pods: map[uint64]redirect.Scope{}, wishes: map[uint64]redirect.Wish{}}
	told := new(sink)
	w := New(Options{State: store, Finder: self{}, Controller: nobody{}, Tap: told, Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- w.Run(ctx, k) }()
	eventually(t, "the refusal is known", func() bool { s := w.Status(); return s.Wanted == 1 && s.Pods == 0 && errors.Is(s.Err, k.refuse) })

	k.mu.Lock()
	k.refuse = nil
	k.mu.Unlock()
	eventually(t, "the pod is observed", func() bool { s := w.Status(); return s.Pods == 1 && s.Err == nil })
	ns, err := netns.Open("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	text := "GET /x HTTP/1.1\r\nHost: h\r\n\r\n"
	k.mu.Lock()
	local, remote := netip.MustParseAddrPort("10.0.0.1:4000"), netip.MustParseAddrPort("10.0.0.2:80")
	opening := func(flow, pod uint64) redirect.Observation {
		return redirect.Observation{Flow: flow, Time: monotonic(), Opening: &redirect.Opening{Pod: pod, Local: local, Remote: remote, Name: remote}}
	}
	k.seen = []redirect.Observation{
		opening(1, ns.Cookie()), opening(2, ns.Cookie()), opening(3, ns.Cookie()+1),
		{Flow: 1, Sent: true, Time: monotonic(), Length: uint32(len(text)), Data: []byte(text)},
		{Flow: 2, Sent: true, Length: 3, Data: []byte("\x16\x03\x01")},
		{Flow: 3, Sent: true, Length: uint32(len(text)), Data: []byte(text)}, // its pod has left
	}
	k.mu.Unlock()
	eventually(t, "the request is told", func() bool { told.mu.Lock(); defer told.mu.Unlock(); return len(told.events) > 0 })
	e := told.events[0]
	if e.Kind != tap.RequestInit || e.Origin != tap.FromKernel || e.Path != "/x" || e.Authority != "h" || e.Source.Workload == nil ||
		e.Source.Workload.Name != "shop" || e.Direction != mesh.Outbound || time.Since(e.Time) > time.Minute {
		t.Errorf("got %+v, want a request for /x of h, made by shop a moment ago, told by the kernel", e)
	}
	k.mu.Lock()
	if !k.wishes[2].Off || len(k.wishes) != 1 {
		t.Errorf("wishes %v, want flow 2 off", k.wishes)
	}
	k.mu.Unlock()

	pod.Observed = false
	apply(2, *pod)
	eventually(t, "the pod is left", func() bool { k.mu.Lock(); defer k.mu.Unlock(); return len(k.pods) == 0 && w.Status().Wanted == 0 })
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if len(told.events) != 1 {
		t.Errorf("%d events, want 1", len(told.events))
	}
}

// TestLook: a pod without a label is observed for a moment.
func TestLook(t *testing.T) {
	store := state.NewStore("n1")
	addr := []netip.Addr{netip.MustParseAddr("10.0.0.1")}
	var resources []state.Resource
	for _, w := range []*mesh.Workload{
		{UID: "u", Name: "plain", Namespace: "ns", Node: "n1", Addrs: addr},
		{UID: "m", Name: "meshed", Namespace: "ns", Node: "n1", Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.2")}, Meshed: true},
	} {
		resources = append(resources, state.Resource{Name: state.WorkloadName(w.UID), Version: "1", Workload: w})
	}
	if err := store.Apply(state.Delta{Version: 1, Synced: true, Resources: resources}); err != nil {
		t.Fatal(err)
	}
	k := &kernel{pods: map[uint64]redirect.Scope{}, wishes: map[uint64]redirect.Wish{}}
	paths := map[string]uint64{"m": 77}
	w := New(Options{
		State: store, Finder: self{}, Controller: nobody{}, Tap: new(sink), Log: slog.New(slog.DiscardHandler),
		Paths: func() map[string]uint64 { return paths },
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- w.Run(ctx, k) }()
	has := func(n int) func() bool {
		return func() bool { k.mu.Lock(); defer k.mu.Unlock(); return len(k.pods) == n && k.pods[77] == redirect.Paths }
	}
	eventually(t, "the pod with kernel paths is observed", has(1))
	named := func(name string) func(*mesh.Workload) bool {
		return func(w *mesh.Workload) bool { return w.Name == name }
	}
	if _, err := w.Look(ctx, named("meshed")); !errors.Is(err, ErrMeshed) {
		t.Errorf("got %v, want %v", err, ErrMeshed)
	}
	if _, err := w.Look(ctx, named("nobody")); !errors.Is(err, ErrNone) {
		t.Errorf("got %v, want %v", err, ErrNone)
	}
	first, err := w.Look(ctx, named("plain"))
	if err != nil {
		t.Fatal(err)
	}
	if !has(2)() {
		t.Error("the pod is not observed when Look returns")
	}
	second, err := w.Look(ctx, named("plain"))
	if err != nil {
		t.Fatal(err)
	}
	first()
	second()
	eventually(t, "the pod is left", has(1))
	k.mu.Lock()
	k.refuse = errors.New("no such program type")
	k.mu.Unlock()
	if _, err := w.Look(ctx, named("plain")); !errors.Is(err, k.refuse) {
		t.Errorf("got %v, want %v", err, k.refuse)
	}
	if s := w.Status(); s.Paths != 1 {
		t.Errorf("status %+v, want a pod with kernel paths", s)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
