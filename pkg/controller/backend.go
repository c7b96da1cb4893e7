package controller

import (
	"context"
	"time"

	"github.com/underlane/underlane/pkg/control"
	"github.com/underlane/underlane/pkg/control/server"
	"github.com/underlane/underlane/pkg/controller/tapapi"
	"github.com/underlane/underlane/pkg/controller/translate"
	"github.com/underlane/underlane/pkg/controller/watch"
	"github.com/underlane/underlane/pkg/mtls/ca"
)

// backend is what differs between a directory of manifests (files) and a cluster.
// All methods may be called concurrently.
type backend interface {
	source() Source
	authority() Authority
	writer() Writer
	// authenticate returns nil when token proves that its bearer is the agent of
	// node; otherwise see server.Options.
	authenticate(ctx context.Context, node, token string) error
	// hasNode reports whether a node may have its certificate renewed.
	hasNode(name string) bool
	// enrolledFile is the path of the file that keeps which pods were enrolled;
	// "" where their annotations do.
	enrolledFile() string
	// ready returns when there is something to serve, or ctx's error.
	ready(ctx context.Context) error
	// run does the backend's own work until ctx ends, and returns its error.
	run(ctx context.Context) error
	// openTap opens the API through which people hear the agents; nil for none.
	// It is called once, before run.
	openTap(c *Controller) (*tapapi.Server, error)
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
