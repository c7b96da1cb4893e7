package voting_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/underlane/underlane/test/demo/demotest"
	pb "github.com/underlane/underlane/test/demo/proto"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestDoughnutFailsWithUnknownAndDoesNotCount(t *testing.T) {
	client := pb.NewVotingServiceClient(demotest.Start(t).Voting)
	if _, err := client.VoteDoughnut(t.Context(), &pb.VoteRequest{}); status.Code(err) != codes.Unknown {
		t.Errorf("a vote for the doughnut: got %v, want code Unknown", err)
	}
	results, err := client.Results(t.Context(), &pb.ResultsRequest{})
	if diff := cmp.Diff(&pb.ResultsResponse{}, results, protocmp.Transform()); err != nil || diff != "" {
		t.Errorf("results: error %v (-want +got):\n%s", err, diff)
	}
}

func TestGeneratedClientVotes(t *testing.T) {
	client := pb.NewVotingServiceClient(demotest.Start(t).Voting)
	for want := range int64(3) {
		got, err := client.VotePointUp2(t.Context(), &pb.VoteRequest{})
		if err != nil || got.GetVotes() != want+1 {
			t.Errorf("got %v, %v, want %d votes", got, err, want+1)
		}
	}
}

func TestWatchSendsAtOnceAndAfterVotes(t *testing.T) {
	client := pb.NewVotingServiceClient(demotest.Start(t).Voting)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	stream, err := client.WatchResults(ctx, &pb.WatchResultsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []*pb.ResultsResponse{
		{},
		{Results: []*pb.Result{{Shortcode: ":fire:", Votes: 1}}},
		{Results: []*pb.Result{{Shortcode: ":fire:", Votes: 2}}},
	} {
		got, err := stream.Recv()
		if diff := cmp.Diff(want, got, protocmp.Transform()); err != nil || diff != "" {
			t.Fatalf("results: error %v (-want +got):\n%s", err, diff)
		}
		if _, err := client.VoteFire(ctx, &pb.VoteRequest{}); err != nil {
			t.Fatal(err)
		}
	}
}
