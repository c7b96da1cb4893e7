// Package voting is the demo's VotingService. It counts votes in memory. A vote for
// the doughnut always fails.
package voting

import (
	"context"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/underlane/underlane/test/demo/catalog"
	pb "github.com/underlane/underlane/test/demo/proto"
)

// watchInterval is the least time between two messages of WatchResults.
const watchInterval = 250 * time.Millisecond

// Server implements VotingService. It must be made with NewServer.
type Server struct {
	pb.UnimplementedVotingServiceServer
	count *count
}

// NewServer returns a Server without votes.
func NewServer() *Server { return &Server{count: newCount()} }

// Register adds s to srv. It makes the handlers of the methods Vote… from the methods'
// names, which name the emoji.
func (s *Server) Register(srv *grpc.Server) {
	desc := pb.VotingService_ServiceDesc
	desc.Methods = slices.Clone(desc.Methods)
	for i, m := range desc.Methods {
		if e, ok := catalog.FindMethod(m.MethodName); ok {
			desc.Methods[i].Handler = s.voteHandler(e)
		}
	}
	srv.RegisterService(&desc, s)
}

func (s *Server) voteHandler(e catalog.Emoji) grpc.MethodHandler {
	return func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		if err := decode(new(pb.VoteRequest)); err != nil {
			return nil, err
		}
		return s.vote(e)
	}
}

func (s *Server) vote(e catalog.Emoji) (*pb.VoteResponse, error) {
	if e.Shortcode == catalog.Doughnut {
		return nil, status.Error(codes.Unknown, "the ballot box ate the doughnut")
	}
	return &pb.VoteResponse{Votes: s.count.add(e.Shortcode)}, nil
}

// Results returns the standings, most votes first.
func (s *Server) Results(context.Context, *pb.ResultsRequest) (*pb.ResultsResponse, error) {
	results, _ := s.count.results()
	return results, nil
}

// WatchResults sends the standings at once and after each change, but not more often
// than once per watchInterval, until the client leaves.
func (s *Server) WatchResults(_ *pb.WatchResultsRequest, stream grpc.ServerStreamingServer[pb.ResultsResponse]) error {
	pace := time.NewTicker(watchInterval)
	defer pace.Stop()
	for ctx := stream.Context(); ; {
		results, changed := s.count.results()
		if err := stream.Send(results); err != nil {
			return err
		}
		if !received(ctx, changed) || !received(ctx, pace.C) {
			return status.FromContextError(ctx.Err()).Err()
		}
	}
}

// received waits for ch. It returns false if ctx ended first.
func received[T any](ctx context.Context, ch <-chan T) bool {
	select {
	case <-ch:
		return true
	case <-ctx.Done():
		return false
	}
}
