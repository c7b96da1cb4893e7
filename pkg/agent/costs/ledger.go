// Package costs tells what each pod costs the agent of its node.
package costs

import (
	"cmp"
	"iter"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/fairshare"
	"github.com/underlane/underlane/pkg/l7proxy/quota"
	"github.com/underlane/underlane/pkg/mesh"
)

// leastInterval is the least time between two assignments of processor time. What is under
// way is not counted before it pauses, so an interval must be longer than that takes.
const leastInterval = 100 * time.Millisecond

// Options are what a Ledger works with.
type Options struct {
	Node  string
	Local func() []*mesh.Workload     // the pods of this node (state.View.Local)
	Usage func() iter.Seq[quota.Used] // what they use (l7proxy.Proxy.PodUsage)
}

// Ledger assigns the agent's processor time to pods.
//
// The proxy measures how long goroutines work for a pod, by the clock. That is longer than
// the processor time if the kernel runs something else meanwhile. So the Ledger compares
// the sum with the processor time of the process, in each interval between two calls, and
// reduces all of it by the same factor if it is longer. It is never raised: what the agent
// does for no pod (garbage collection, the controller's stream, tap) is no pod's.
//
// Its methods are safe for concurrent use.
type Ledger struct {
	Options
	process func() time.Duration // processor time of this process

	mu    sync.Mutex
	at    time.Time     // of the last assignment
	spent time.Duration // of the process until then
	pods  map[quota.Key]*entry
	names map[string]*mesh.Workload // by UID, of those in pods
}

// entry is a pod in one direction.
type entry struct {
	seen     time.Duration // what the proxy has measured
	assigned time.Duration
}

// New makes a Ledger.
func New(o Options) *Ledger {
	return &Ledger{Options: o, process: processTime, pods: make(map[quota.Key]*entry), names: make(map[string]*mesh.Workload)}
}

func processTime() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u) // cannot fail
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// Costs returns what the pods cost now: those of the mesh on this node, and others that
// still have connections in it. The order is that of namespaces and names.
func (l *Ledger) Costs() *agentv1.CostsResponse {
	l.mu.Lock()
	defer l.mu.Unlock()
	used := slices.Collect(l.Usage())
	l.assign(used)
	r := &agentv1.CostsResponse{Node: l.Node, Time: timestamppb.New(l.at), Process: durationpb.New(l.spent)}
	byUID := make(map[string]*agentv1.PodCost)
	add := func(w *mesh.Workload) *agentv1.PodCost {
		pod := &agentv1.PodCost{
			Namespace: w.Namespace, Name: w.Name, Uid: w.UID, Weight: fairshare.DefaultWeight,
			Outbound: new(agentv1.Cost), Inbound: new(agentv1.Cost),
		}
		byUID[w.UID] = pod
		r.Pods = append(r.Pods, pod)
		return pod
	}
	names := make(map[string]*mesh.Workload)
	for _, w := range l.Local() {
		names[w.UID] = w
		if w.Meshed {
			add(w)
		}
	}
	for _, u := range used {
		pod := byUID[u.UID]
		if w := cmp.Or(names[u.UID], l.names[u.UID]); pod == nil && w != nil {
			names[u.UID] = w // the state may forget the pod before its connections end
			pod = add(w)
		}
		if pod == nil { // the state does not have the pod yet
			continue
		}
		pod.Weight = uint32(u.Weight)
		side := &pod.Outbound
		if u.Direction == mesh.Inbound {
			side = &pod.Inbound
		}
		*side = l.cost(u)
	}
	l.names = names
	slices.SortFunc(r.Pods, func(a, b *agentv1.PodCost) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Uid, b.Uid))
	})
	return r
}

func (l *Ledger) cost(u quota.Used) *agentv1.Cost {
	c := &agentv1.Cost{
		Waited: durationpb.New(u.Waited), Waits: u.Waits,
		Connections: uint64(u.Connections), Descriptors: uint64(u.Descriptors), Streams: uint64(u.Streams),
		Bytes: uint64(max(u.Bytes, 0)), Clients: uint64(u.Sources),
		Processor: new(durationpb.Duration),
	}
	if e := l.pods[u.Key]; e != nil {
		c.Processor = durationpb.New(e.assigned)
	}
	return c
}

// assign assigns the processor time since the last assignment, unless that was a moment
// ago. mu is held.
func (l *Ledger) assign(used []quota.Used) {
	now := time.Now()
	if !l.at.IsZero() && now.Sub(l.at) < leastInterval {
		return
	}
	spent := l.process()
	grown := make([]time.Duration, len(used))
	var sum time.Duration
	pods := make(map[quota.Key]*entry, len(used))
	for i, u := range used {
		e := l.pods[u.Key]
		if e == nil || u.Work+u.Handshakes < e.seen { // the proxy had forgotten the pod, and counts anew
			e = new(entry)
		}
		pods[u.Key] = e
		grown[i] = u.Work + u.Handshakes - e.seen
		e.seen += grown[i]
		sum += grown[i]
	}
	part := 1.0
	if sum > spent-l.spent {
		part = float64(spent-l.spent) / float64(sum)
	}
	for i, u := range used {
		pods[u.Key].assigned += time.Duration(float64(grown[i]) * part)
	}
	l.at, l.spent, l.pods = now, spent, pods
}
