// Package server is the controller's end of the state streams (pkg/control). It has
// a Front for the port, a Server that sends each agent the parts of one immutable
// Snapshot that the agent lacks, and the signing of node and workload certificates.
package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/underlane/underlane/api/control/v1"
	"github.com/underlane/underlane/pkg/control"
	"github.com/underlane/underlane/pkg/mesh"
)

// Authority is the certificate authority that the Server needs; ca.Authority
// implements it. Chains are DER, leaf first. CSRs are PKCS #10 in DER, of which
// only the public key is used.
type Authority interface {
	SignWorkload(csrDER []byte, id mesh.Identity, lifetime time.Duration) (chain [][]byte, notAfter time.Time, err error)
	SignNode(csrDER []byte, node string, lifetime time.Duration) (chain [][]byte, notAfter time.Time, err error)
	ServingCertificate(dnsNames []string, ips []net.IP) (tls.Certificate, error)
	Anchors() []*x509.Certificate
	// IssuerID returns a value that changes with the signing key.
	IssuerID() []byte
	// NodeName returns the name of the node that a verified certificate from
	// SignNode belongs to.
	NodeName(cert *x509.Certificate) (string, error)
}

// Options configure a Server. All fields but NodeExists and Observer are
// required.
type Options struct {
	Authority        Authority
	NodeLifetime     time.Duration // of node certificates
	WorkloadLifetime time.Duration // of workload certificates
	// Authenticate returns nil when token proves that the caller is the agent of
	// node. The Server passes a gRPC status on unchanged (Unavailable when the token
	// could not be checked). Any other error is a refusal, and the Server sends its
	// text to the caller.
	Authenticate func(ctx context.Context, node, token string) error
	// NodeExists reports whether the cluster still has the node. Only then may its
	// certificate be renewed. With nil every node may renew.
	NodeExists func(node string) bool
	Log        *slog.Logger
	Observer   Observer // may be nil
	// StaleKeys is told the sources of keys of tokens that lack a key, as an agent says. It
	// does not block. nil: nobody is told.
	StaleKeys func(source string)
	// Leader reports whether this controller lends shares of limits (package lease), and
	// otherwise the address, host:port, of the one that does; "": it is not known. nil: this
	// one does.
	Leader func() (leads bool, address string)
}

// Server is the controller's end of the streams. A Front serves it.
type Server struct {
	pb.UnimplementedControlServer
	opt      Options
	stats    serverCounters
	refusals spacing

	snapshot atomic.Pointer[Snapshot]
	streams  *fanout
	closed   chan struct{}
	close    sync.Once

	lender *lender

	observing sync.Mutex // held during each call of the Observer; locked before that of streams
}

// New returns a Server that sends nothing before the first Publish.
func New(opt Options) *Server {
	return &Server{opt: opt, streams: newFanout(), closed: make(chan struct{}), lender: newLender(opt.Leader)}
}

// Close ends every stream, so that the grpc.Server can stop gracefully.
func (s *Server) Close() { s.close.Do(func() { close(s.closed) }) }

// Register adds the Control service to r.
func (s *Server) Register(r grpc.ServiceRegistrar) { pb.RegisterControlServer(r, s) }

// Publish sets the state that agents get. An agent that has not answered its last
// delta gets the newest snapshot once it has answered; it skips those between.
func (s *Server) Publish(snap *Snapshot) {
	s.lender.set(snap.shared) // before the agents get the limits
	s.snapshot.Store(snap)
	s.streams.published(snap)
}

// Snapshot returns the snapshot that was published last, nil before the first.
func (s *Server) Snapshot() *Snapshot { return s.snapshot.Load() }

// Sync serves one agent's stream until either side ends it.
func (s *Server) Sync(stream grpc.BidiStreamingServer[pb.SyncRequest, pb.Delta]) error {
	caller, err := s.caller(stream.Context())
	if err != nil {
		return err
	}
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	st, err := newSyncState(s.streams.numbers, caller.node, first)
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	f, leave := s.connected(st, first)
	defer leave()
	log := s.opt.Log.With("node", caller.node)
	log.Info("agent connected", "version", shown(first.GetAgent().GetVersion(), maxShownName), "has", len(st.sent), "subscriptions", len(st.subs))
	err = s.serve(stream, st, f, caller.expiry, log)
	log.Info("agent disconnected", "reason", reasonOf(err))
	return err
}

func (s *Server) serve(stream grpc.BidiStreamingServer[pb.SyncRequest, pb.Delta], st *syncState,
	f *follower, expiry time.Time, log *slog.Logger,
) error {
	ctx, cancel := context.WithDeadline(stream.Context(), expiry)
	defer cancel()
	requests, ended := control.Receive(ctx, stream.Recv)
	for {
		for d := s.next(st, f); d != nil; d = s.next(st, f) {
			if err := stream.SendMsg(d); err != nil {
				return err
			}
			s.stats.deltas.Add(1)
			s.stats.resources.Add(uint64(len(d.resources)))
		}
		select {
		case <-f.wake:
			if f.leaves.Load() {
				return status.Error(codes.Aborted, control.MoveOn)
			}
		case req := <-requests:
			refused, err := st.handle(req)
			if req.GetAnswer() != nil {
				s.stats.answers.Add(1)
				f.answered(st.late.until == st.nonce)
			}
			switch {
			case errors.Is(err, errTooManySubscriptions):
				return status.Error(codes.ResourceExhausted, err.Error())
			case err != nil:
				return status.Error(codes.InvalidArgument, err.Error())
			case refused != "":
				s.stats.nacks.Add(1)
				log.Warn("agent refused a delta", "nonce", st.nonce, "err", shown(refused, maxShownText))
			}
			s.reported(st.node, req)
			s.staleKeys(req.GetStaleKeys())
		case err := <-ended:
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		case <-s.closed:
			return status.Error(codes.Unavailable, "the controller is stopping")
		case <-ctx.Done():
			if stream.Context().Err() == nil {
				return status.Error(codes.Unauthenticated, "the node's certificate has expired: it must be renewed")
			}
			return stream.Context().Err()
		}
	}
}

// next returns the delta to send now, nil if there is none. It looks at the newest snapshot if
// that may concern the stream.
func (s *Server) next(st *syncState, f *follower) *delta {
	f.busy.Store(true)
	defer func() { f.busy.Store(st.pending || st.wider || st.missed || !st.synced) }()
	for !st.pending {
		f.take(&st.news) // before the snapshot is loaded: that has what they say, or something newer
		snap := s.snapshot.Load()
		if snap == nil || !st.due() {
			return nil
		}
		s.stats.looks.Add(1)
		st.told = true
		d := st.next(snap)
		s.streams.moved(f, st)
		st.missed = s.snapshot.Load() != snap
		if d != nil {
			f.hasSent(time.Now(), d.answerWithin > 0)
		}
		if d != nil || !st.missed {
			return d
		}
	}
	return nil
}

func reasonOf(err error) string {
	if err == nil {
		return "agent ended the stream"
	}
	return status.Convert(err).Message()
}
