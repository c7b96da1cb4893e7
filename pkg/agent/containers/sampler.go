// Package containers says what the containers of the node's pods use, and beside that what
// each pod costs the agent. It reads their cgroups from time to time, so that there is a
// rate whenever it is asked.
package containers

import (
	"context"
	"sync"
	"time"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/cgroup"
	"github.com/underlane/underlane/pkg/mesh"
)

const (
	// every is the time between two samples, which have only what rates are made of.
	every = 10 * time.Second
	// least is the shortest time that rates are averages over.
	least = time.Second
	// lookEvery is how often the cgroups of all pods are looked for, at most.
	lookEvery = 10 * time.Second
)

// Options are what a Sampler works with.
type Options struct {
	Node string
	// Host returns the hierarchies of the host: see cgroup.Host.
	Host func() ([]cgroup.Tree, error)
	// Pods returns the pods of this node.
	Pods func() []*mesh.Workload
	// Processes returns the processes of a pod, where the kubelet makes no cgroups of pods.
	Processes func(*mesh.Workload) ([]string, error)
	// Costs returns what the pods cost the agent (costs.Ledger).
	Costs func() *agentv1.CostsResponse
	// Certificates returns when the valid certificates of this node's pods expire.
	Certificates func() map[mesh.Identity]time.Time
}

// Sampler reads the cgroups of the node's pods. Its methods are safe for concurrent use.
type Sampler struct {
	Options

	mu     sync.Mutex
	trees  []cgroup.Tree
	err    error // why there are no trees
	dirs   map[string]cgroup.Dirs
	looked time.Time // when dirs were last looked for
	// newest is the last sample, and before the one before it: what is asked for right after
	// a sample is compared with the latter.
	newest, before *sample
}

// sample is what was used at one time. Pods are by UID.
type sample struct {
	at    time.Time
	pods  map[string]cgroup.Usage
	costs costTable
}

// New makes a Sampler.
func New(o Options) *Sampler { return &Sampler{Options: o} }

// Run takes samples until ctx is done.
func (s *Sampler) Run(ctx context.Context) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		s.mu.Lock()
		s.keep(s.take(time.Now(), cgroup.KnowsCPU|cgroup.KnowsLimits))
		s.mu.Unlock()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// keep keeps a sample for rates. The caller holds mu.
func (s *Sampler) keep(now *sample) { s.newest, s.before = now, s.newest }

// base returns the sample that one of now is compared with, or nil. The caller holds mu.
func (s *Sampler) base(now time.Time) *sample {
	for _, old := range []*sample{s.newest, s.before} {
		if old != nil && now.Sub(old.at) >= least {
			return old
		}
	}
	return nil
}

// take reads the wanted parts of what is used now. The caller holds mu.
func (s *Sampler) take(now time.Time, want cgroup.Known) *sample {
	one := &sample{at: now, pods: make(map[string]cgroup.Usage), costs: costsOf(s.Costs())}
	if s.trees == nil {
		trees, err := s.Host()
		if s.err = err; err != nil {
			return one
		}
		s.trees = trees
	}
	pods := s.Pods()
	missing := s.read(one, pods, want)
	if len(missing) > 0 && now.Sub(s.looked) >= lookEvery {
		s.looked = now
		s.look(pods, missing)
		s.read(one, missing, want)
	}
	return one
}

// read reads the cgroups of pods into a sample. It returns the pods whose cgroups are not
// known, or are gone. The caller holds mu.
func (s *Sampler) read(into *sample, pods []*mesh.Workload, want cgroup.Known) (missing []*mesh.Workload) {
	for _, w := range pods {
		if usage, ok := cgroup.Read(s.trees, s.dirs[w.UID], want); ok {
			into.pods[w.UID] = usage
		} else {
			missing = append(missing, w)
		}
	}
	return missing
}

// look looks for the cgroups of the missing ones among pods, and forgets those of pods that
// are not there any more. The caller holds mu.
func (s *Sampler) look(pods, missing []*mesh.Workload) {
	named := cgroup.Pods(s.trees)
	dirs := make(map[string]cgroup.Dirs, len(pods))
	for _, w := range pods {
		if d := s.dirs[w.UID]; d != nil {
			dirs[w.UID] = d
		}
	}
	for _, w := range missing {
		delete(dirs, w.UID)
		if d := named[w.UID]; d != nil {
			dirs[w.UID] = d
			continue
		}
		if s.Processes == nil {
			continue
		}
		if pids, err := s.Processes(w); err == nil {
			if d := cgroup.OfProcesses(s.trees, pids); !d.Empty() {
				dirs[w.UID] = d
			}
		}
	}
	s.dirs = dirs
}
