package server

import (
	"context"
	"log/slog"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/underlane/underlane/api/control/v1"
	"github.com/underlane/underlane/pkg/mesh"
)

// Bootstrap issues a node's first certificate in exchange for its token.
func (s *Server) Bootstrap(ctx context.Context, req *pb.BootstrapRequest) (*pb.BootstrapResponse, error) {
	if err := s.authenticate(ctx, req.GetNode(), req.GetToken()); err != nil {
		s.stats.bootRefused.Add(1)
		level := slog.LevelDebug
		if s.refusals.allow(time.Now()) { // any peer can cause refusals, at any rate
			level = slog.LevelWarn
		}
		s.opt.Log.Log(ctx, level, "bootstrap refused", "node", shown(req.GetNode(), maxShownName), "code", status.Code(err).String(), "err", status.Convert(err).Message())
		return nil, err
	}
	return s.signNode(req.GetNode(), req.GetCsr())
}

// authenticate returns nil or a status whose text is safe to show.
func (s *Server) authenticate(ctx context.Context, node, token string) error {
	if node == "" || token == "" {
		return status.Error(codes.Unauthenticated, "a node's name and its token are needed")
	}
	if !isNodeName(node) {
		return status.Errorf(codes.InvalidArgument, "%q is no name of a node", shown(node, maxShownName))
	}
	err := s.opt.Authenticate(ctx, node, token)
	if st, isStatus := status.FromError(err); isStatus { // also for nil
		return status.Error(st.Code(), shown(st.Message(), maxShownText))
	}
	return status.Error(codes.Unauthenticated, shown(err.Error(), maxShownText)) // the text may quote the token
}

// Renew issues the next certificate of the calling node.
func (s *Server) Renew(ctx context.Context, req *pb.RenewRequest) (*pb.BootstrapResponse, error) {
	caller, err := s.caller(ctx)
	if err != nil {
		return nil, err
	}
	if s.opt.NodeExists != nil && !s.opt.NodeExists(caller.node) {
		s.stats.bootRefused.Add(1)
		s.opt.Log.Warn("renewal refused: there is no such node", "node", caller.node)
		return nil, status.Errorf(codes.PermissionDenied, "there is no node %s in the cluster", caller.node)
	}
	return s.signNode(caller.node, req.GetCsr())
}

func (s *Server) signNode(node string, csr []byte) (*pb.BootstrapResponse, error) {
	chain, notAfter, err := s.opt.Authority.SignNode(csr, node, s.opt.NodeLifetime)
	if err != nil {
		s.stats.bootRefused.Add(1)
		return nil, status.Errorf(codes.InvalidArgument, "sign a certificate for node %q: %v", node, err)
	}
	s.stats.bootstrapped.Add(1)
	s.opt.Log.Debug("node certificate issued", "node", node, "expiry", notAfter)
	return &pb.BootstrapResponse{Chain: chain, Anchors: s.anchors(), Expiry: timestamppb.New(notAfter)}, nil
}

// SignWorkload issues a certificate for the identity of a meshed pod of the
// calling node.
func (s *Server) SignWorkload(ctx context.Context, req *pb.SignWorkloadRequest) (*pb.SignWorkloadResponse, error) {
	caller, err := s.caller(ctx)
	if err != nil {
		return nil, err
	}
	chain, notAfter, err := s.signWorkload(caller.node, req)
	if err != nil {
		s.stats.refused.Add(1)
		s.opt.Log.Warn("certificate refused", "node", caller.node, "identity", shown(req.GetIdentity(), maxShownText), slog.Any("err", err))
		return nil, err
	}
	s.stats.signed.Add(1)
	s.opt.Log.Debug("certificate issued", "node", caller.node, "identity", req.GetIdentity(), "expiry", notAfter)
	return &pb.SignWorkloadResponse{Chain: chain, Anchors: s.anchors(), NotAfter: timestamppb.New(notAfter)}, nil
}

func (s *Server) signWorkload(node string, req *pb.SignWorkloadRequest) ([][]byte, time.Time, error) {
	id, err := mesh.ParseIdentity(req.GetIdentity())
	if err != nil {
		return nil, time.Time{}, status.Error(codes.InvalidArgument, shown(err.Error(), maxShownText))
	}
	snap := s.snapshot.Load()
	if snap == nil {
		return nil, time.Time{}, status.Error(codes.Unavailable, "the controller has not read the cluster's state yet")
	}
	if !snap.hasIdentity(node, id) {
		return nil, time.Time{}, status.Errorf(codes.PermissionDenied, "no meshed pod of node %s has the identity %s", node, id)
	}
	chain, notAfter, err := s.opt.Authority.SignWorkload(req.GetCsr(), id, s.opt.WorkloadLifetime)
	if err != nil {
		return nil, time.Time{}, status.Errorf(codes.InvalidArgument, "sign a certificate for %s: %v", id, err)
	}
	return chain, notAfter, nil
}

func (s *Server) anchors() [][]byte {
	var der [][]byte
	for _, c := range s.opt.Authority.Anchors() {
		der = append(der, c.Raw)
	}
	return der
}
