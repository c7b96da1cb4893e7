// Package fakeagent is a node's agent without its kernel part, for tests of code
// that calls agents. It has the real node API over mutual TLS, a hub for events,
// and a status that the test sets.
package fakeagent

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/agent/nodeapi"
	"github.com/underlane/underlane/pkg/figures"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls/ca"
	"github.com/underlane/underlane/pkg/tap"
	"github.com/underlane/underlane/test/ports"
)

// TrustDomain is the trust domain of Authority.
const TrustDomain = "cluster.local"

// Authority makes a certificate authority with a root of its own.
func Authority(t testing.TB) *ca.Authority {
	t.Helper()
	a, err := ca.New(TrustDomain)
	if err != nil {
		t.Fatal(err)
	}
	root, err := ca.NewRoot(TrustDomain)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Use(root, []*x509.Certificate{root.Cert()}); err != nil {
		t.Fatal(err)
	}
	return a
}

// Agent is a running agent. Its exported fields may be changed before a request
// reads them.
type Agent struct {
	Name string
	Addr string // of the node API
	Hub  *tap.Hub
	St   *agentv1.StatusResponse
	Text string // metrics
	Cost *agentv1.CostsResponse
	Uses *agentv1.ResourcesResponse
	Open *agentv1.ConnectionsResponse
	// Hangs makes the answers to Resources and Connections wait for the caller to give up.
	Hangs atomic.Bool
	// Old is an agent of a version that knows neither figures, nor what pods use, nor open
	// connections. Restart reads it.
	Old       bool
	Ejections []*agentv1.Ejection
	// TryResponse answers Try; nil: it is not implemented.
	TryResponse func(*agentv1.TryRequest) (*agentv1.TryResponse, error)
	// Authz answers for authorization policies. Restart reads it.
	Authz nodeapi.Authorization
	// Memory has what the agent remembers of Hub's events.
	Memory *figures.Store

	t         testing.TB
	authority *ca.Authority
	cert      *tls.Certificate
	ctx       context.Context
	cancel    context.CancelFunc
	done      chan struct{}
}

// Start runs the agent of node name until Stop or the end of the test. Its
// certificate has the name certName if that is not empty.
func Start(t testing.TB, authority *ca.Authority, name, certName string) *Agent {
	t.Helper()
	if certName == "" {
		certName = name
	}
	memory := figures.NewStore(figures.Options{}, time.Now())
	a := &Agent{
		Name: name, Addr: ports.Reserve(t).String(), Hub: tap.NewHub(memory), Memory: memory, Text: "fake_metric 1\n", t: t, authority: authority,
		Cost: &agentv1.CostsResponse{Node: name}, Uses: &agentv1.ResourcesResponse{Node: name}, Open: &agentv1.ConnectionsResponse{Node: name},
		St: &agentv1.StatusResponse{Node: name, Version: "v0.0-test", Synced: true, ProgramsAttached: true, SnapshotVersion: 1},
	}
	a.cert = a.sign(certName)
	a.Restart()
	t.Cleanup(a.Stop)
	return a
}

// Workload returns a meshed pod on the agent's node, of a deployment called owner.
func (a *Agent) Workload(namespace, name, owner string) *mesh.Workload {
	return &mesh.Workload{
		UID: namespace + "/" + name, Namespace: namespace, Name: name, Node: a.Name, OwnerKind: "deployment", OwnerName: owner,
		ServiceAccount: owner, Meshed: true, Ready: true,
		Identity: mesh.Identity{TrustDomain: TrustDomain, Namespace: namespace, ServiceAccount: owner},
	}
}

// Restart serves on the same address again.
func (a *Agent) Restart() {
	a.t.Helper()
	ln, err := net.Listen("tcp", a.Addr)
	if err != nil {
		a.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	a.ctx, a.cancel, a.done = ctx, cancel, make(chan struct{})
	server := &nodeapi.Server{Hub: a.Hub, Source: a, Dumper: a, Exporter: a, Ledger: a, Usage: a, Lister: a, Node: a.Name, Memory: a.Memory, Dialer: a, Ejected: func() []*agentv1.Ejection { return a.Ejections }, Authorization: a.Authz}
	if a.Old {
		server.Memory, server.Usage, server.Lister = nil, nil, nil
	}
	go func(done chan struct{}) {
		defer close(done)
		if err := server.ServeTLS(ctx, ln, nodeapi.Credentials{
			Certificate: func() (*tls.Certificate, error) { return a.cert, nil },
			Anchors:     func() (*x509.CertPool, error) { return pool(a.authority.Anchors()), nil },
			TrustDomain: TrustDomain,
		}); err != nil {
			slog.Error("fake agent", "err", err)
		}
	}(a.done)
}

// Costs implements nodeapi.CostProvider.
func (a *Agent) Costs(context.Context) *agentv1.CostsResponse { return a.Cost }

// Report implements nodeapi.Reporter.
func (a *Agent) Report() *agentv1.ResourcesResponse {
	if a.Hangs.Load() {
		<-a.ctx.Done()
	}
	return a.Uses
}

// List implements nodeapi.Lister.
func (a *Agent) List(ctx context.Context, _ *agentv1.ConnectionsRequest) (*agentv1.ConnectionsResponse, error) {
	if a.Hangs.Load() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return a.Open, nil
}

// Try implements nodeapi.Dialer.
func (a *Agent) Try(_ context.Context, r *agentv1.TryRequest) (*agentv1.TryResponse, error) {
	if a.TryResponse == nil {
		return nil, status.Error(codes.Unimplemented, "this agent tries nothing")
	}
	return a.TryResponse(r)
}

// Stop ends the agent. It may be called twice.
func (a *Agent) Stop() {
	a.cancel()
	<-a.done
}

// Emit emits e with the current time.
func (a *Agent) Emit(e tap.Event) {
	e.Time = time.Now()
	a.Hub.Emit(&e)
}

// AwaitTap waits until there is a tap subscription.
func (a *Agent) AwaitTap() {
	a.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !a.Hub.Active(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			a.t.Fatalf("agent %s: no tap subscription, want one", a.Name)
		}
	}
}

// Status implements nodeapi.StatusProvider.
func (a *Agent) Status(context.Context) *agentv1.StatusResponse {
	return proto.CloneOf(a.St)
}

// Dump implements nodeapi.Dumper.
func (a *Agent) Dump(context.Context) ([]byte, error) {
	return []byte(`{"node":"` + a.Name + `"}`), nil
}

// WriteText implements nodeapi.Exporter.
func (a *Agent) WriteText(w io.Writer) error {
	_, err := io.WriteString(w, a.Text)
	return err
}

func (a *Agent) sign(node string) *tls.Certificate {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		a.t.Fatal(err)
	}
	chain, _, err := a.authority.SignNode(csr, node, time.Hour)
	if err != nil {
		a.t.Fatal(err)
	}
	return &tls.Certificate{Certificate: chain, PrivateKey: key}
}

func pool(certs []*x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	for _, c := range certs {
		p.AddCert(c)
	}
	return p
}
