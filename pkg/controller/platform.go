package controller

import (
	"context"
	"net/netip"
	"time"

	"github.com/underlane/underlane/pkg/control"
	"github.com/underlane/underlane/pkg/control/server"
	"github.com/underlane/underlane/pkg/controller/translate"
	"github.com/underlane/underlane/pkg/controller/watch"
	"github.com/underlane/underlane/pkg/mtls/ca"
)

// Platform has the parts that differ between a directory of manifests (files) and a
// cluster (package cluster). All methods may be called concurrently.
type Platform interface {
	Source() Source
	Authority() Authority
	Writer() Writer
	// Authenticate returns nil when token proves that the caller is the agent of
	// node. For its errors see server.Options.
	Authenticate(ctx context.Context, node, token string) error
	// HasNode reports whether the node exists, so that its certificate may be
	// renewed.
	HasNode(name string) bool
	// IsNodeAddr reports whether a node is known to have this address.
	IsNodeAddr(addr netip.Addr) bool
	// Leader returns the pod of the controller that leads, while another one does. The names
	// are "" if it is not known.
	Leader() (namespace, name string)
	// Share returns how many replicas serve agents, and how many agents there are. Both are 0 if
	// it is not known.
	Share() (replicas, agents int)
	// EnrolledFile returns the path of the file that records which pods were
	// enrolled. It returns "" when the pods' annotations record it.
	EnrolledFile() string
	// Ready waits until there is something to serve. It returns ctx's error if ctx
	// ends before.
	Ready(ctx context.Context) error
	// Run does the platform's own work until ctx ends, and returns its error.
	Run(ctx context.Context) error
	// OpenTap opens the API that passes the agents' events on to users. It returns
	// nil if there is none. It is called once, before Run.
	OpenTap(c *Controller) (Tap, error)
}

// Tap is the API that passes the agents' events on to users.
type Tap interface {
	// Run serves until ctx ends, and then ends the running taps.
	Run(ctx context.Context) error
	// Close releases the listener of a Tap that is never run.
	Close()
	// Stats returns the number of running taps, and the number of refused calls
	// since the start, by reason.
	Stats() (taps int64, refused map[string]uint64)
	// HistoryStats returns the sizes of what is remembered of the mesh's traffic: bytes, and
	// pairs of workloads. It returns false if nothing is.
	HistoryStats() (bytes, edges int, ok bool)
}

// Source is the source of Kubernetes objects.
type Source interface {
	// Kind returns the label value of the source's problems in metrics: "manifest"
	// or "resource".
	Kind() string
	// Run keeps the source current until ctx ends.
	Run(ctx context.Context) error
	// Objects returns the newest objects; they are never changed.
	Objects() *translate.Objects
	// Next returns what has changed of Objects since the last call; the first has everything.
	// It has one caller.
	Next() translate.Batch
	// AsOf returns a time. Objects includes everything that the source had learnt by
	// then.
	AsOf() time.Time
	// Changes returns a channel that receives after Objects or Problems changed.
	Changes() <-chan struct{}
	// Problems returns the objects or resources that cannot be used now. Failures
	// returns the number of problems since the start.
	Problems() []watch.Problem
	Failures() uint64
	// Origin returns where an object was read from, "" if that is not known.
	Origin(kind, namespace, name string) string
}

// Authority is the certificate authority.
type Authority interface {
	server.Authority
	Issuer() (ca.Issuer, bool)
	// Changes returns a channel that receives after the issuer or the anchors
	// changed.
	Changes() <-chan struct{}
	// Problem returns why the newest issuer cannot be used, "" if it can.
	Problem() string
}

// Writer writes back to the origin of the objects.
type Writer interface {
	server.Observer // the Writer writes the agents' reports onto the pods
	// UpdateRoutes receives the status of each route in o. It does not block.
	UpdateRoutes(o *translate.Objects, statuses []translate.RouteStatus)
	// Leading reports whether this replica is the one that writes.
	Leading() bool
	Writes() Writes
}

// Writes counts the writes of a Writer, and the attempts that failed.
type Writes struct{ Pods, PodsFailed, Routes, RoutesFailed uint64 }

// noWriter is the Writer for manifests, to which the controller does not write.
type noWriter struct{}

func (noWriter) AgentConnected(server.AgentInfo)                          {}
func (noWriter) AgentDisconnected(string)                                 {}
func (noWriter) PodsReported(string, []control.PodStatus)                 {}
func (noWriter) UpdateRoutes(*translate.Objects, []translate.RouteStatus) {}
func (noWriter) Leading() bool                                            { return true }
func (noWriter) Writes() Writes                                           { return Writes{} }
