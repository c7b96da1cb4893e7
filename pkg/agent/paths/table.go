// Package paths keeps the kernel paths of a node: which destinations of which pods the
// kernel connects to their endpoint, without the proxy. The proxy names the destinations
// that are used, the state says whether they are settled, and the Table writes the settled
// ones into a map of the kernel.
package paths

import (
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/destination"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/redirect"
	"github.com/underlane/underlane/pkg/state"
)

// Kernel has the paths. *redirect.Datapath implements it.
type Kernel interface {
	SetPath(redirect.Path) error
	DeletePath(redirect.PathKey) error
	Paths() ([]redirect.Path, error)
	// Flows lists the open connections that have taken a path, which may be there no more.
	Flows() ([]redirect.Flow, error)
}

// Redirects has the packets of pods that have paths go from one to the other, past the host.
// *redirect.Redirects implements it.
type Redirects interface {
	// Want says which pods have paths now, by the cookies of their namespaces.
	Want(cookies map[uint64]bool)
}

// Judge says which destinations are settled. *l7proxy.Proxy implements it.
type Judge interface {
	// Settled returns where connections of a pod of this node to an address go.
	Settled(local *mesh.Workload, dst netip.AddrPort) (destination.Settled, error)
	// MayConnect returns why a client may not be connected to an address of a server, or nil.
	MayConnect(client, server *mesh.Workload, to netip.AddrPort) error
}

// Pods are the enrolled pods of this node. *carry.Carrier implements it.
type Pods interface {
	// Cookie returns the cookie of a pod's namespace; false: the pod is not enrolled.
	Cookie(uid string) (uint64, bool)
	// ByCookie returns the enrolled pod that has the namespace, or nil.
	ByCookie(cookie uint64) *mesh.Workload
	// DirectTo counts the connections of a pod to an address that no proxy carries.
	DirectTo(uid string, to netip.AddrPort) (int, error)
	// CutDirect ends them, and returns how many there were.
	CutDirect(uid string, to netip.AddrPort) (int, error)
}

// State is the agent's state. *state.Store implements it.
type State interface {
	View() *state.View
	Watch() (changes <-chan struct{}, cancel func())
}

// Options are what a Table works with.
type Options struct {
	Judge Judge
	Pods  Pods
	State State
	Log   *slog.Logger
}

// Limits of the table. What is beyond them goes through the proxy.
const (
	maxEntries = 8192
	maxOfPod   = 256 // so that no pod takes all
)

// Table keeps the paths. Its methods are safe for concurrent use.
type Table struct {
	Options
	used chan use // destinations that are not in the table
	lost chan key // destinations whose endpoint the kernel could not reach
	full atomic.Uint64
	cuts atomic.Uint64

	mu        sync.RWMutex
	kernel    Kernel
	redirects Redirects       // nil: none
	told      map[uint64]bool // what Want was called with last; nil: it was not
	entries   map[key]*entry
	ofPod     map[string]int // number of entries by the client's UID
	// open are the flows that the kernel may have connected, until none is found.
	open map[flow]string // UID of the server
}

// key is a destination of a pod.
type key struct {
	client string // UID
	dst    netip.AddrPort
}

type use struct {
	key
	local *mesh.Workload
}

// entry is a destination that a pod uses, settled or not.
type entry struct {
	path redirect.Path // valid if set
	set  bool          // the kernel has it
	// found: the last sweep has seen it there
	found bool
	last  time.Time // when the proxy saw a connection to it
	// others: the destination has other endpoints, which the proxy tries if the path's cannot
	// be reached. The proxy has such a destination until reachable.
	others    bool
	reachable time.Time
}

// flow is all connections of a pod to an endpoint.
type flow struct {
	client   string // UID
	endpoint netip.AddrPort
}

// New makes a table without paths.
func New(o Options) *Table {
	return &Table{
		Options: o, used: make(chan use, 256), lost: make(chan key, 256),
		entries: make(map[key]*entry), ofPod: make(map[string]int), open: make(map[flow]string),
	}
}

// Used notes that the proxy carries a connection of local to dst. The next one may
// take the kernel path. It does not wait.
func (t *Table) Used(local *mesh.Workload, dst netip.AddrPort) {
	k := key{local.UID, dst}
	if !t.mu.TryRLock() {
		return // it is used again
	}
	e := t.entries[k]
	known := e != nil && time.Since(e.last) < forgetAfter/2
	t.mu.RUnlock()
	if known {
		return
	}
	select {
	case t.used <- use{k, local}:
	default: // it is used again
	}
}

// Failed notes that a connection of a client to dst could not be made on the kernel path. If
// dst has other endpoints, the next ones go through the proxy, which tries these. It does not
// wait.
func (t *Table) Failed(client string, dst netip.AddrPort) {
	select {
	case t.lost <- key{client, dst}:
	default: // it fails again
	}
}

// Len is the number of paths that the kernel has.
func (t *Table) Len() (n int) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, e := range t.entries {
		if e.set {
			n++
		}
	}
	return n
}

// Clients returns the cookies of the pods that have paths, by UID.
func (t *Table) Clients() map[string]uint64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	var out map[string]uint64
	for k, e := range t.entries {
		if e.set {
			if out == nil {
				out = make(map[string]uint64)
			}
			out[k.client] = e.path.Client
		}
	}
	return out
}

// Full counts the destinations that were not taken because there were too many.
func (t *Table) Full() uint64 { return t.full.Load() }

// Cuts counts the connections that were ended because a policy did not allow them any more.
func (t *Table) Cuts() uint64 { return t.cuts.Load() }

// add judges a destination that is used.
func (t *Table) add(u use) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.entries[u.key]
	if e == nil {
		if len(t.entries) >= maxEntries || t.ofPod[u.client] >= maxOfPod {
			t.full.Add(1)
			return
		}
		e = &entry{}
		t.entries[u.key] = e
		t.ofPod[u.client]++
	}
	e.last = time.Now()
	t.judge(u.key, e)
	t.tell()
}

// fail gives a destination back to the proxy, if there is more than one endpoint.
func (t *Table) fail(k key) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.entries[k]
	if e == nil || !e.set || !e.others {
		return
	}
	t.Log.Debug("the proxy decides about a destination again: its endpoint cannot be reached", "client", k.client, "destination", k.dst, "endpoint", e.path.Endpoint)
	e.reachable = time.Now().Add(avoidFor)
	t.unset(e)
	t.tell()
}

// judge gives the kernel the path of an entry if it is settled, and takes it back if not.
// mu is held.
func (t *Table) judge(k key, e *entry) {
	path, to, err := t.settled(k)
	if err == nil && time.Now().Before(e.reachable) {
		err = errUnreachable
	}
	if err != nil {
		if e.set {
			t.Log.Debug("the proxy decides about a destination again", "client", k.client, "destination", k.dst, "cause", err)
			t.unset(e)
		}
		return
	}
	e.others = to.Others
	if e.set && e.path == path {
		return
	}
	if e.set && e.path.PathKey != path.PathKey {
		t.unset(e) // the pod has a new namespace
	}
	t.open[flow{k.client, path.Endpoint}] = to.Server.UID
	if err := t.kernel.SetPath(path); err != nil {
		t.Log.Warn("a destination stays with the proxy: the kernel does not take its path", "client", k.client, "destination", k.dst, "cause", err)
		return
	}
	if !e.set {
		t.Log.Debug("the kernel connects to a destination", "client", k.client, "destination", k.dst, "endpoint", path.Endpoint)
	}
	e.path, e.set = path, true
}

var (
	errUnknown     = errors.New("the pod is not known any more")
	errNotEnrolled = errors.New("the pod is not enrolled")
	errNoServer    = errors.New("the endpoint's pod is not enrolled")
	errUnreachable = errors.New("a connection to the endpoint has failed, and the proxy may know others")
)

// settled returns the path of a destination, and where it leads. mu is held.
func (t *Table) settled(k key) (path redirect.Path, to destination.Settled, err error) {
	local, ok := t.State.View().WorkloadByUID(k.client)
	if !ok {
		return path, to, errUnknown
	}
	client, ok := t.Pods.Cookie(k.client)
	if !ok {
		return path, to, errNotEnrolled
	}
	if to, err = t.Judge.Settled(local, k.dst); err != nil {
		return path, to, err
	}
	server, ok := t.Pods.Cookie(to.Server.UID)
	if !ok {
		return path, to, errNoServer
	}
	return redirect.Path{PathKey: redirect.PathKey{Client: client, Dst: k.dst}, Server: server, Endpoint: to.Endpoint}, to, nil
}

// unset takes the path of an entry from the kernel. mu is held.
func (t *Table) unset(e *entry) {
	if err := t.kernel.DeletePath(e.path.PathKey); err != nil {
		t.Log.Error("a path cannot be taken back from the kernel: new connections still take it", "destination", e.path.Dst, "cause", err)
		return // it is tried again
	}
	e.set = false
}
