package fanin

import (
	"context"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
)

// Tap is one caller's tap of several nodes.
type Tap struct {
	Agents *Agents
	// Request returns the request for each agent. Run calls it regularly, like
	// Nodes. When it returns another request, Run opens all taps again; events
	// during that moment are missed. The request's limit also applies to the merged
	// stream, which drops events above it.
	Request func() *agentv1.TapRequest
	// Nodes returns the nodes that the request currently concerns. Run calls it
	// regularly, because pods move, and nodes are added and removed.
	Nodes func() []Node
	// May reports whether the caller may know of a node. Of others one warning says that
	// something is missing, without a name. nil: it may know of all.
	May func(node string) bool
	// Started is called once, when the tap of each initial node has begun or has
	// failed. No event after that is missed.
	Started func() error
	// Send receives the merged stream. While it blocks, nothing is read from the
	// agents, which count the events that they drop.
	Send func(*agentv1.TapEvents) error

	unnamed sync.Once
}

// lookEvery is the interval between calls of Nodes.
const lookEvery = 2 * time.Second

// Run taps until ctx ends or Send fails, and returns the reason.
func (t *Tap) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()

	in := make(chan report)
	followed := map[Node]context.CancelFunc{}
	agents := 0 // the number of the last agent, for the merger
	request := t.Request()
	look := func() (ready []<-chan struct{}) {
		if again := t.Request(); !proto.Equal(again, request) {
			request = again
			for n, end := range followed {
				end()
				delete(followed, n)
			}
		}
		now := map[Node]bool{}
		for _, n := range t.Nodes() {
			now[n] = true
			if followed[n] != nil {
				continue
			}
			agents++
			f := &follower{node: n, number: agents, agents: t.Agents, request: request, tap: t, out: in, ready: make(chan struct{})}
			ready = append(ready, f.ready)
			life, end := context.WithCancel(ctx)
			followed[n] = end
			wg.Go(func() { f.run(life) })
		}
		for n, end := range followed {
			if !now[n] {
				end()
				delete(followed, n)
			}
		}
		return ready
	}

	awaitAll(ctx, look())
	if err := t.Started(); err != nil {
		return err
	}
	merge := newMerger(request.GetMaxRps())
	again := time.NewTicker(lookEvery)
	defer again.Stop()
	for {
		select {
		case r := <-in:
			if batch := merge.pass(r); batch != nil {
				if err := t.Send(batch); err != nil {
					return err
				}
			}
		case <-again.C:
			look()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// awaitAll waits until all channels are closed, at most for the time of one call.
func awaitAll(ctx context.Context, all []<-chan struct{}) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	for _, c := range all {
		select {
		case <-c:
		case <-ctx.Done():
			return
		}
	}
}
