// Package web is the demo's front end. It has a page and a few REST endpoints for the
// emoji, voting and banner services.
package web

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/underlane/underlane/test/demo/banner"
	"github.com/underlane/underlane/test/demo/catalog"
	pb "github.com/underlane/underlane/test/demo/proto"
)

const (
	callTimeout   = 3 * time.Second        // for all calls of one request together
	bannerTimeout = 500 * time.Millisecond // for the footer, which the page can do without
)

// Server answers HTTP requests with the data of its backends.
type Server struct {
	emoji  pb.EmojiServiceClient
	voting grpc.ClientConnInterface
	banner string // address
}

// New returns a Server with connections to its gRPC services and the address of the
// banner service, "" if there is none.
func New(emoji, voting grpc.ClientConnInterface, bannerAddr string) *Server {
	return &Server{emoji: pb.NewEmojiServiceClient(emoji), voting: voting, banner: bannerAddr}
}

// Handler routes:
//
//	GET /                           the page
//	GET /api/list                   [{shortcode, unicode}]
//	GET /api/vote?choice=:pizza:    {shortcode, votes}
//	GET /api/leaderboard            [{shortcode, unicode, votes}], most votes first
//	GET /api/events                 the leaderboard as server-sent events
//	GET /healthz                    200
//
// Errors are {error}.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.page)
	mux.Handle("GET /static/", http.FileServerFS(static))
	mux.HandleFunc("GET /api/list", s.list)
	mux.HandleFunc("GET /api/vote", s.vote)
	mux.HandleFunc("GET /api/leaderboard", s.leaderboard)
	mux.HandleFunc("GET /api/events", s.events)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("ok\n")) })
	return mux
}

// Choice is an emoji in the response of /api/list.
type Choice struct {
	Shortcode string `json:"shortcode"`
	Unicode   string `json:"unicode"`
}

// Standing is a row of the leaderboard.
type Standing struct {
	Choice
	Votes int64 `json:"votes"`
}

func (s *Server) list(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), callTimeout)
	defer cancel()
	choices, err := s.choices(ctx)
	reply(w, choices, err)
}

func (s *Server) choices(ctx context.Context) ([]Choice, error) {
	all, err := s.emoji.ListAll(ctx, &pb.ListAllRequest{})
	if err != nil {
		return nil, err
	}
	choices := make([]Choice, len(all.GetList()))
	for i, e := range all.GetList() {
		choices[i] = Choice{e.GetShortcode(), e.GetUnicode()}
	}
	return choices, nil
}

// vote looks up the choice and calls the method that votes for it.
func (s *Server) vote(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), callTimeout)
	defer cancel()
	found, err := s.emoji.FindByShortcode(ctx, &pb.FindByShortcodeRequest{Shortcode: r.FormValue("choice")})
	if err != nil {
		reply(w, nil, err)
		return
	}
	shortcode := found.GetEmoji().GetShortcode()
	var voted pb.VoteResponse
	err = s.voting.Invoke(ctx, VotePath(shortcode), &pb.VoteRequest{}, &voted)
	reply(w, map[string]any{"shortcode": shortcode, "votes": voted.GetVotes()}, err)
}

// VotePath returns the HTTP/2 path of the call that votes for a shortcode.
func VotePath(shortcode string) string {
	return "/" + pb.VotingService_ServiceDesc.ServiceName + "/" + catalog.Emoji{Shortcode: shortcode}.Method()
}

func (s *Server) leaderboard(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), callTimeout)
	defer cancel()
	results, err := pb.NewVotingServiceClient(s.voting).Results(ctx, &pb.ResultsRequest{})
	reply(w, standings(results), err)
}

func standings(results *pb.ResultsResponse) []Standing {
	rows := make([]Standing, len(results.GetResults()))
	for i, r := range results.GetResults() {
		e, _ := catalog.Find(r.GetShortcode())
		rows[i] = Standing{Choice{r.GetShortcode(), e.Unicode}, r.GetVotes()}
	}
	return rows
}

// greeting asks the banner service. It returns "" if there is no answer in time.
func (s *Server) greeting(ctx context.Context) string {
	if s.banner == "" {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, bannerTimeout)
	defer cancel()
	visit, err := banner.Visit(ctx, s.banner)
	if err != nil {
		slog.Warn("page without a greeting", "error", err)
	}
	return visit.Greeting
}

// reply writes body as JSON, or err with the HTTP status of its gRPC code.
func reply(w http.ResponseWriter, body any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		slog.Info("request failed", "error", err)
		w.WriteHeader(httpStatus(status.Code(err)))
		body = map[string]string{"error": status.Convert(err).Message()}
	}
	if err := json.NewEncoder(w).Encode(body); err != nil {
		slog.Debug("client went away", "error", err)
	}
}

func httpStatus(code codes.Code) int {
	switch code {
	case codes.NotFound:
		return http.StatusNotFound
	case codes.Unavailable:
		return http.StatusServiceUnavailable
	case codes.DeadlineExceeded:
		return http.StatusGatewayTimeout
	default:
		return http.StatusInternalServerError
	}
}
