// Package endpoints knows how the endpoints of services are: how busy, and which of
// them are ejected because they cannot be reached or fail.
package endpoints

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"

	"github.com/underlane/underlane/pkg/l7proxy/balance"
	"github.com/underlane/underlane/pkg/l7proxy/lifetime"
	"github.com/underlane/underlane/pkg/l7proxy/upstream"
	"github.com/underlane/underlane/pkg/mesh"
)

// Options are what a Set works with.
type Options struct {
	Log      *slog.Logger
	Lifetime *lifetime.Lifetime
	// Probe finds out whether a pod of this node reaches an endpoint.
	Probe func(ctx context.Context, from *mesh.Workload, ep mesh.Endpoint) error
}

// Set are the endpoints of all service ports in use. Its methods are safe for
// concurrent use.
type Set struct {
	Options
	balancers balancers
	ejections ejections

	running sync.WaitGroup
	probes  chan struct{} // a place for each under way
	mu      sync.Mutex
	byAddr  map[netip.AddrPort]*ejection
}

// New is an empty set.
func New(o Options) *Set {
	s := &Set{Options: o, probes: make(chan struct{}, probesAtOnce), byAddr: make(map[netip.AddrPort]*ejection)}
	s.balancers.log, s.balancers.byPort = o.Log, make(map[portKey]*portBalancer)
	return s
}

// Balancer returns the balancer of a service port, updated to what port says in the
// view of that version, for clients like local. Sessions hold views of different
// ages for a moment: an older one must not bring back endpoints that are gone.
func (s *Set) Balancer(svc *mesh.Service, port *mesh.ServicePort, local *mesh.Workload, v4 bool, version uint64) *balance.Balancer {
	return s.balancers.get(svc, port, local, v4, version)
}

// Forget drops what has not been asked for in a while. It is called at regular
// intervals.
func (s *Set) Forget() {
	s.balancers.forget()
	s.forgetEjections()
}

// Wait waits for what the set does by itself, which ends with its lifetime.
func (s *Set) Wait() {
	s.settle()
	s.running.Wait()
}

// settle waits for what was about to start when the lifetime ended.
func (s *Set) settle() {
	s.mu.Lock()
	defer s.mu.Unlock()
}

// Unreachable takes note that an endpoint cannot be reached, for that reason: all
// balancers eject it.
func (s *Set) Unreachable(ep *upstream.Endpoint, why mesh.Reason) { s.unreachable(ep, why, nil) }
