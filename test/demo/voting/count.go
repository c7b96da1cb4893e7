package voting

import (
	"cmp"
	"maps"
	"slices"
	"sync"

	pb "github.com/underlane/underlane/test/demo/proto"
)

// count holds the votes by shortcode, and lets callers wait for the next vote.
type count struct {
	mu      sync.Mutex
	votes   map[string]int64
	changed chan struct{} // closed and replaced at each vote
}

func newCount() *count {
	return &count{votes: make(map[string]int64), changed: make(chan struct{})}
}

// add counts a vote and returns the number of votes for the emoji.
func (c *count) add(shortcode string) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.votes[shortcode]++
	close(c.changed)
	c.changed = make(chan struct{})
	return c.votes[shortcode]
}

// results returns the standings, most votes first, and a channel that is closed when
// they change.
func (c *count) results() (*pb.ResultsResponse, <-chan struct{}) {
	c.mu.Lock()
	votes, changed := maps.Clone(c.votes), c.changed
	c.mu.Unlock()
	results := make([]*pb.Result, 0, len(votes))
	for shortcode, n := range votes {
		results = append(results, &pb.Result{Shortcode: shortcode, Votes: n})
	}
	slices.SortFunc(results, func(a, b *pb.Result) int {
		return cmp.Or(cmp.Compare(b.Votes, a.Votes), cmp.Compare(a.Shortcode, b.Shortcode))
	})
	return &pb.ResultsResponse{Results: results}, changed
}
