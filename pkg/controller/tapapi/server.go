// Package tapapi serves tap.underlane.io, the API that passes the events of all
// nodes' agents on to users with the required RBAC permission. It is an aggregated
// API: an APIService makes the cluster's API server forward the calls. The API
// server's front-proxy certificate authenticates them. This package then authorises
// each call by a SubjectAccessReview in the user's name.
package tapapi

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/client-go/kubernetes"

	"github.com/underlane/underlane/pkg/control/server"
	"github.com/underlane/underlane/pkg/controller/fanin"
	"github.com/underlane/underlane/pkg/controller/history"
	"github.com/underlane/underlane/pkg/figures/watch"
	"github.com/underlane/underlane/pkg/listener"
	"github.com/underlane/underlane/pkg/listener/crowd"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls/certchain"
)

// DefaultAddr is the default address of the API.
const DefaultAddr = ":8444"

// AgentPort is the port of every agent's node API. An agent cannot announce another
// port: all replicas call the agent, but it has a stream with only one.
const AgentPort = "4193"

const (
	controllerLifetime = 24 * time.Hour
	callTimeout        = 10 * time.Second // of calls to the API server
	stopTimeout        = time.Second
	maxTaps            = 64
	// Limit on connections without a call from the API server. A connection above
	// the limit closes the oldest one.
	maxStrangers = 256
	maxFromOne   = 64 // connections from one address
	// connsPerSecond limits the new connections from one address.
	connsPerSecond = 10
)

// Cluster is the controller's current state of the cluster. The slices are not
// changed after they were returned.
type Cluster interface {
	Nodes() []fanin.Node
	// NodeAddrs returns the addresses at which the cluster's nodes have their node ports.
	NodeAddrs() []netip.Addr
	Workloads() []*mesh.Workload
	Services() []*mesh.Service
	Routes() []*mesh.Route
	// Labels returns the labels of the pod with this UID, nil when there is no such
	// pod.
	Labels(uid string) map[string]string
}

// Options configure a Server. All fields but History are required.
type Options struct {
	Addr      string // TCP address to listen on
	Client    kubernetes.Interface
	Authority Authority
	Cluster   Cluster
	Namespace string       // namespace of the installation
	Service   string       // name of the Service in the APIService
	State     func() any   // returns the answer to …/state, which is sent as JSON
	Metrics   http.Handler // what …/metrics answers
	Accepts   *listener.Group
	History   History
	Policies  Policies
	Log       *slog.Logger
}

// Server serves the API: it embeds asker, which embeds access. The other calls are in types
// that use asker: authzCalls, whyCalls and nodeCalls. Server itself has the listener, the
// paths, and the taps.
type Server struct {
	asker
	listener  net.Listener
	strangers *crowd.Crowd
	taps      atomic.Int64
}

// asker answers questions for figures, from the agents or the history (figures.go,
// history.go, watch.go).
type asker struct {
	access
	agents    *fanin.Agents
	kept      fanin.Kept
	asked     atomic.Int64       // questions for figures that are being answered
	history   *history.Collector // nil: there is none
	watched   watch.Hub
	histories chan struct{} // has room for the answers from it that are being made
}

// access knows who makes a call, and asks the API server whether that user may (access.go,
// routes.go).
type access struct {
	opt   Options
	front *frontSource

	mu     sync.Mutex
	counts map[string]uint64 // refused calls, by reason
}

// New listens. It serves nothing before Run. Close releases the listener of a
// Server that is never run.
func New(opt Options) (*Server, error) {
	ln, err := net.Listen("tcp", opt.Addr)
	if err != nil {
		return nil, fmt.Errorf("listen for the tap API: %w", err)
	}
	own := &server.OwnCertificate{
		Issue:  func() (tls.Certificate, error) { return opt.Authority.ControllerCertificate(controllerLifetime) },
		Issuer: opt.Authority.IssuerID,
	}
	strangers := &crowd.Crowd{Total: maxStrangers, Each: maxFromOne, PerSecond: connsPerSecond}
	s := &Server{listener: strangers.Listen(opt.Accepts.Patient(ln)), strangers: strangers}
	s.opt, s.front = opt, &frontSource{client: opt.Client}
	s.counts = map[string]uint64{"unauthenticated": 0, "denied": 0, "authorization-failed": 0}
	s.agents = &fanin.Agents{Certificate: own.Get, Anchors: opt.Authority.Anchors, TrustDomain: opt.Authority.TrustDomain()}
	s.histories = make(chan struct{}, maxHistories)
	s.history = s.newCollector()
	s.watched.Ask = s.askWatched
	return s, nil
}

// Addr returns the address of the API.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Close releases the listener. Run does it too.
func (s *Server) Close() { _ = s.listener.Close() }

// Run serves until ctx ends, and then cuts the running taps.
func (s *Server) Run(ctx context.Context) error {
	defer s.kept.Close()
	if s.history != nil {
		ctx, cancel := context.WithCancel(ctx)
		var collecting sync.WaitGroup
		defer collecting.Wait() // it writes its file at the end
		defer cancel()
		collecting.Go(func() { s.history.Run(ctx) })
	}
	serving := &server.OwnCertificate{
		Issue: func() (tls.Certificate, error) {
			return s.opt.Authority.ServingCertificate(serviceNames(s.opt.Service, s.opt.Namespace), nil)
		},
		Issuer: s.opt.Authority.IssuerID,
	}
	server := &http.Server{
		Handler: s.routes(), BaseContext: func(net.Listener) context.Context { return ctx },
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, conn)
		},
		ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(s.opt.Log.Handler(), slog.LevelDebug),
	}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		if server.Shutdown(end) != nil {
			_ = server.Close()
		}
	})
	err := server.Serve(&tlsListener{s.listener, &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{"h2", "http/1.1"},
		// authenticate verifies the certificate at each call, because the CA is in a
		// ConfigMap and may change.
		ClientAuth:     tls.RequestClientCert,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return serving.Get() },
		// A session that is resumed would keep the certificate of the first one.
		SessionTicketsDisabled: true,
	}})
	if stop() || !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the tap API: %w", err)
	}
	<-ended
	return nil
}

// tlsListener makes TLS connections of those that it accepts. http.Server does the
// handshakes. The bounds of certchain hold for what the peer sends in the handshake, and
// for the certificates in it.
type tlsListener struct {
	net.Listener
	config *tls.Config
}

func (l *tlsListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	below := certchain.NewConn(conn)
	config := l.config.Clone()
	config.VerifyConnection = func(cs tls.ConnectionState) error {
		below.Done()
		return certchain.Check(cs.PeerCertificates)
	}
	return tls.Server(below, config), nil
}

// connKey is the context key of a call's connection.
type connKey struct{}

// known marks the connection of a call as the API server's, so that it no longer
// counts as a stranger's.
func known(ctx context.Context) {
	if conn, ok := ctx.Value(connKey{}).(net.Conn); ok {
		crowd.Known(conn)
	}
}

func serviceNames(service, namespace string) []string {
	name := service + "." + namespace
	return []string{name + ".svc", name + ".svc.cluster.local", name}
}

func (s *access) count(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[what]++
}

// Stats returns the number of running taps, and the number of refused calls since
// the start, by reason: unauthenticated, denied, authorization-failed.
func (s *Server) Stats() (taps int64, refused map[string]uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.taps.Load(), maps.Clone(s.counts)
}
