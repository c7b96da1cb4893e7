// Package emoji is the demo's EmojiService, which serves the ballot over gRPC.
package emoji

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/underlane/underlane/test/demo/catalog"
	pb "github.com/underlane/underlane/test/demo/proto"
)

// Server implements EmojiService with the catalog.
type Server struct {
	pb.UnimplementedEmojiServiceServer
}

// ListAll returns the whole ballot.
func (Server) ListAll(context.Context, *pb.ListAllRequest) (*pb.ListAllResponse, error) {
	list := make([]*pb.Emoji, len(catalog.All))
	for i, e := range catalog.All {
		list[i] = message(e)
	}
	return &pb.ListAllResponse{List: list}, nil
}

// FindByShortcode returns one emoji, or NOT_FOUND.
func (Server) FindByShortcode(_ context.Context, req *pb.FindByShortcodeRequest) (*pb.FindByShortcodeResponse, error) {
	e, ok := catalog.Find(req.GetShortcode())
	if !ok {
		return nil, status.Errorf(codes.NotFound, "no emoji %q is on the ballot", req.GetShortcode())
	}
	return &pb.FindByShortcodeResponse{Emoji: message(e)}, nil
}

func message(e catalog.Emoji) *pb.Emoji {
	return &pb.Emoji{Shortcode: e.Shortcode, Unicode: e.Unicode}
}
