package controller

import (
	"context"
	"time"

	"github.com/underlane/underlane/pkg/control"
	"github.com/underlane/underlane/pkg/control/server"
	"github.com/underlane/underlane/pkg/controller/translate"
	"github.com/underlane/underlane/pkg/controller/watch"
	"github.com/underlane/underlane/pkg/mtls/ca"
)

// Platform is what differs between a directory of manifests (files) and a cluster
// (package cluster). All methods may be called concurrently.
type Platform interface {
	Source() Source
	Authority() Authority
	Writer() Writer
	// Authenticate returns nil when token proves that its bearer is the agent of
	// node; otherwise see server.Options.
	Authenticate(ctx context.Context, node, token string) error
	// HasNode reports whether a node may have its certificate renewed.
	HasNode(name string) bool
	// EnrolledFile is the path of the file that keeps which pods were enrolled;
	// "" where their annotations do.
	EnrolledFile() string
	// Ready returns when there is something to serve, or ctx's error.
	Ready(ctx context.Context) error
	// Run does the platform's own work until ctx ends, and returns its error.
	Run(ctx context.Context) error
	// OpenTap opens the API that passes the agents' events on to users; nil for none.
	// It is called once, before Run.
	OpenTap(c *Controller) (Tap, error)
}

// Tap is the API that passes the agents' events on to users.
type Tap interface {
	// Run serves until ctx ends, and then ends the taps that still run.
	Run(ctx context.Context) error
	// Close releases the listener of a Tap that is never run.
	Close()
	// Stats returns how many taps run, and how many calls were refused since the
	// start, by why.
	Stats() (taps int64, refused map[string]uint64)
}

// Source is where Kubernetes objects come from.
type Source interface {
	// Kind is what a problem of the source is about, in metrics: "manifest" or
	// "resource".
	Kind() string
	// Run keeps the source current until ctx ends.
	Run(ctx context.Context) error
	// Objects returns the newest objects; they are never changed.
	Objects() *translate.Objects
	// AsOf is a time: what the source had learnt by then is in Objects.
	AsOf() time.Time
	// Changes receives after Objects or Problems changed.
	Changes() <-chan struct{}
	// Problems returns what cannot be used now, and Failures how many
	// problems there were.
	Problems() []watch.Problem
	Failures() uint64
	// Origin returns where an object was read from, "" if not known.
	Origin(kind, namespace, name string) string
}

// Authority is the certificate authority.
type Authority interface {
	server.Authority
	Issuer() (ca.Issuer, bool)
	// Changes receives after the issuer or the anchors changed.
	Changes() <-chan struct{}
	// Problem says why the newest issuer cannot be used; "" for none.
	Problem() string
}

// Writer writes back to where the objects came from.
type Writer interface {
	server.Observer // what agents report of pods is written on them
	// UpdateRoutes is given the status of each route in o. It does not block.
	UpdateRoutes(o *translate.Objects, statuses []translate.RouteStatus)
	// Leading reports whether this replica is the one that writes.
	Leading() bool
	Writes() Writes
}

// Writes counts what a Writer has written, and the attempts that failed.
type Writes struct{ Pods, PodsFailed, Routes, RoutesFailed uint64 }

// noWriter is the Writer of manifests, which are not written to.
type noWriter struct{}

func (noWriter) AgentConnected(server.AgentInfo)                          {}
func (noWriter) AgentDisconnected(string)                                 {}
func (noWriter) PodsReported(string, []control.PodStatus)                 {}
func (noWriter) UpdateRoutes(*translate.Objects, []translate.RouteStatus) {}
func (noWriter) Leading() bool                                            { return true }
func (noWriter) Writes() Writes                                           { return Writes{} }
