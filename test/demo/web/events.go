package web

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"

	pb "github.com/underlane/underlane/test/demo/proto"
)

// events forwards the stream of VotingService as server-sent events, one leaderboard
// per message, until either side ends it.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	stream, err := pb.NewVotingServiceClient(s.voting).WatchResults(r.Context(), &pb.WatchResultsRequest{})
	if err != nil {
		reply(w, nil, err)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	out := http.NewResponseController(w)
	for {
		results, err := stream.Recv()
		if errors.Is(err, io.EOF) || r.Context().Err() != nil {
			return
		}
		if err != nil {
			slog.Warn("event stream ended", "error", err)
			return
		}
		message, err := json.Marshal(standings(results))
		if err != nil {
			slog.Error("encode the leaderboard", "error", err)
			return
		}
		fmt.Fprintf(w, "data: %s\n\n", message)
		if err := out.Flush(); err != nil {
			return
		}
	}
}
