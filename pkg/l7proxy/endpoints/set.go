// Package endpoints keeps the state of the endpoints of services: how busy they are, and
// which of them are ejected because they cannot be reached or fail.
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

// Set holds the endpoints of all service ports in use. Its methods are safe for concurrent
// use.
type Set struct {
	Options
	balancers balancers
	ejections ejections

	running sync.WaitGroup
	probes  chan struct{} // one element for each probe that is under way
	mu      sync.Mutex
	byAddr  map[netip.AddrPort]*ejection
}

// New makes an empty set.
func New(o Options) *Set {
	s := &Set{Options: o, probes: make(chan struct{}, probesAtOnce), byAddr: make(map[netip.AddrPort]*ejection)}
	s.balancers.log, s.balancers.byPort = o.Log, make(map[portKey]*portBalancer)
	return s
}

// Balancer returns the balancer of a service port for clients like local, updated to port
// as the view of that version has it. A port of an older view than the last one changes
// nothing.
func (s *Set) Balancer(svc *mesh.Service, port *mesh.ServicePort, local *mesh.Workload, v4 bool, version uint64) *balance.Balancer {
	return s.balancers.get(svc, port, local, v4, version)
}

// Forget drops what was not used for some time. It is called at regular intervals.
func (s *Set) Forget() {
	s.balancers.forget()
	s.forgetEjections()
}

// Wait waits for the set's goroutines, which end with its lifetime.
func (s *Set) Wait() {
	s.settle()
	s.running.Wait()
}

// settle waits for eject, if that starts a goroutine while the lifetime ends.
func (s *Set) settle() {
	s.mu.Lock()
	defer s.mu.Unlock()
}

// Unreachable has all balancers eject an endpoint that cannot be reached, for that reason.
// If its node may be gone, they eject the other endpoints of the node too, which are probed
// at once.
func (s *Set) Unreachable(ep *upstream.Endpoint, why mesh.Reason) { s.unreachable(ep, why, nil) }
