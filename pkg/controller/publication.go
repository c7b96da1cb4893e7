package controller

import (
	"iter"
	"maps"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/underlane/underlane/pkg/control/server"
	"github.com/underlane/underlane/pkg/controller/translate"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
)

// publication is what the controller publishes, and what it is made of. A change passes through it as
// a change: nothing here looks at all that there is, but for those who ask for all of it.
type publication struct {
	keeper *server.Keeper // used by publish alone
	work   work
	// backlog has what was not taken in yet; used by publish alone.
	backlog backlog

	mu         sync.Mutex // publish holds it while it changes what follows
	translator *translate.Translator
	workloads  map[string]*mesh.Workload // as published, by UID
	authz      map[string]*authz.Spec    // those that have fetched keys, as published, by UID
	bare       map[string]*authz.Spec    // the same as they were translated
	all        *translate.Result         // nil: it is to be made
	problems   []translate.Problem       // of the objects
	unkeyed    []translate.Problem       // of keys that cannot be fetched
	fresh      bool                      // one of the two may have changed since they were reported
}

// work counts what was done since the start.
type work struct {
	changes, publications, computed atomic.Uint64
	took                            atomic.Int64 // nanoseconds
}

func newPublication(c translate.Config) *publication {
	return &publication{
		keeper: server.NewKeeper(), translator: translate.New(c), workloads: map[string]*mesh.Workload{},
		authz: map[string]*authz.Spec{}, bare: map[string]*authz.Spec{},
	}
}

// result returns all that is published. It must not be changed. To make it takes time that
// grows with the mesh, once after a change.
func (s *publication) result() *translate.Result {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all != nil {
		return s.all
	}
	r := *s.translator.Result()
	r.Workloads = slices.Clone(r.Workloads)
	for i, w := range r.Workloads {
		if published := s.workloads[w.UID]; published != nil {
			r.Workloads[i] = published
		}
	}
	if len(s.authz) > 0 {
		r.Authz = maps.Clone(r.Authz)
		maps.Copy(r.Authz, s.authz)
	}
	s.all = &r
	return s.all
}

// each returns the workloads in no particular order. They are not to be looked at for long.
func (s *publication) each() iter.Seq[*mesh.Workload] {
	return func(yield func(*mesh.Workload) bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, w := range s.workloads {
			if !yield(w) {
				return
			}
		}
	}
}

// spec returns the policies of a pod.
func (s *publication) spec(uid string) *authz.Spec {
	s.mu.Lock()
	defer s.mu.Unlock()
	if spec := s.authz[uid]; spec != nil {
		return spec
	}
	return s.translator.Authz(uid)
}

// advance takes in what has changed. keys: those that are fetched may have changed, too. It
// returns the next snapshot, and whether the statuses may have changed that are written to
// objects.
func (c *Controller) advance(keys bool) (snap *server.Snapshot, statuses bool) {
	s := c.state
	batch := c.source.Next()
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.server.Snapshot() != nil { // the first has everything
		batch = s.backlog.take(batch, s.translator.Known)
	}
	ch := s.translator.Apply(batch)
	if !ch.Empty() || ch.Statuses || ch.Problems {
		s.all = nil
	}
	s.work.changes.Add(uint64(len(batch.Changes)))
	s.work.computed.Store(s.translator.Work())
	if ch.Problems {
		s.problems, s.fresh = s.translator.Problems(), true
	}
	workloads := c.enrolments.apply(ch.Workloads, ch.Services)
	if len(workloads) > 0 {
		s.all = nil
	}
	for _, w := range workloads {
		if w.Before != nil && (w.After == nil || w.After.UID != w.Before.UID) {
			delete(s.workloads, w.Before.UID)
		}
	}
	for _, w := range workloads {
		if w.After != nil {
			s.workloads[w.After.UID] = w.After
		}
	}
	out := server.Changes{
		Workloads: workloads, Services: ch.Services, Routes: ch.Routes, Egress: ch.Egress, Authz: c.fillKeys(ch.Authz, keys), Anchors: c.anchors(),
		NodesSet: ch.Nodes,
	}
	if ch.Nodes {
		out.Nodes = s.translator.Nodes()
	}
	return s.keeper.Apply(out), ch.Statuses || slices.ContainsFunc(batch.Changes, hasStatus)
}

// hasStatus reports whether the controller may write the status of an object.
func hasStatus(c translate.Change) bool {
	switch c.Object.(type) {
	case *translate.Pod, *corev1.Service, *corev1.Node, *corev1.Namespace, *discoveryv1.EndpointSlice:
		return false
	}
	return true
}

// fillKeys returns the policies that have changed, with the keys that are fetched in those
// whose rules for tokens have a source. The caller holds mu.
func (c *Controller) fillKeys(changed map[string]*authz.Spec, keys bool) map[string]*authz.Spec {
	s := c.state
	for uid, spec := range changed {
		if _, had := s.bare[uid]; had || fetches(spec) {
			keys = true
		}
		if delete(s.bare, uid); fetches(spec) {
			s.bare[uid] = spec
		}
	}
	if !keys {
		return changed
	}
	out := maps.Clone(changed)
	if out == nil {
		out = map[string]*authz.Spec{}
	}
	filled := make(map[string]*authz.Spec, len(s.bare))
	for uid, spec := range s.bare {
		with := *spec
		with.Tokens = slices.Clone(spec.Tokens)
		filled[uid] = &with
	}
	s.all = nil
	s.unkeyed, s.fresh = problemsOf(c.keys.Fill(filled)), true
	for uid, spec := range filled {
		if old := s.authz[uid]; old != nil && reflect.DeepEqual(old, spec) {
			filled[uid] = old
			delete(out, uid)
			continue
		}
		out[uid] = spec
	}
	s.authz = filled
	return out
}

// fetches reports whether a rule of spec has keys that are fetched.
func fetches(spec *authz.Spec) bool {
	return spec != nil && slices.ContainsFunc(spec.Tokens, func(r authz.TokenRule) bool { return r.Source != "" })
}
