// Package nri is a plugin of the container runtime's Node Resource Interface. The runtime
// calls it for each pod before the pod's first container starts.
package nri

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"
)

// DefaultSocket is where containerd and CRI-O listen for plugins.
const DefaultSocket = "/var/run/nri/nri.sock"

// Sandbox is the environment of a pod's containers. It has the network namespace and the
// addresses.
type Sandbox struct {
	UID, Namespace, Name string
	Labels, Annotations  map[string]string // of the pod
	Netns                string            // path on the host; "" if the pod is on the host's network
	PID                  uint32            // of a process in the sandbox; 0: not known
	Addrs                []netip.Addr      // may be empty: not every runtime sends them
}

// Outcome is the result of the call for a new sandbox.
type Outcome string

// Outcomes.
const (
	Enrolled  Outcome = "enrolled"  // the pod was enrolled before its first container started
	Unlabeled Outcome = "unlabeled" // the pod does not belong to the mesh
	Late      Outcome = "late"      // the agent did not learn in time whether it belongs to the mesh
	Failed    Outcome = "failed"    // the enrolment failed; the agent tries again after the pod has started
)

// Outcomes are all outcomes.
var Outcomes = []Outcome{Enrolled, Unlabeled, Late, Failed}

// Handler receives the runtime's calls.
type Handler interface {
	// RunSandbox is called when a pod's network is set up. The pod's containers start
	// after it has returned. It must return before ctx ends.
	RunSandbox(ctx context.Context, s Sandbox)
	// StopSandbox is called when a sandbox's containers have ended and its network is
	// about to be removed. It may be called again later, even if the pod has another
	// sandbox by then: the kubelet stops a sandbox again before it removes it.
	StopSandbox(s Sandbox)
}

// Plugin is the connection to the runtime.
type Plugin struct {
	Socket  string
	Handler Handler
	Log     *slog.Logger

	mu     sync.Mutex
	status Status
}

// Status is the state of the connection.
type Status struct {
	Connected  bool
	Runtime    string // name and version; "" before the first connection
	Since      time.Time
	LastError  string // why it is not connected
	Reconnects uint64 // connections that were lost
}

// Status returns the state of the connection.
func (p *Plugin) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.status
}
