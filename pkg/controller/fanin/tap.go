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
	// Request returns what goes to each agent. It is asked again and again, as
	// Nodes is: when it is another, all agents are asked anew, and what happens in
	// that moment is missed. Its limit is that of the whole too: the merge holds
	// back what is too much together.
	Request func() *agentv1.TapRequest
	// Nodes returns the nodes that the request concerns now. It is asked again
	// and again: pods move, nodes come and go.
	Nodes func() []Node
	// Started is called once, when every node of the first hour is listened to
	// or has failed: nothing from then on is missed.
	Started func() error
	// Send takes the merged stream. While it blocks nothing is read from the
	// agents, which count what is lost.
	Send func(*agentv1.TapEvents) error
}

// lookEvery is how often Nodes is asked.
const lookEvery = 2 * time.Second

// Run taps until ctx ends or Send fails, and returns why.
func (t *Tap) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()

	in := make(chan report)
	followed := map[Node]context.CancelFunc{}
	agents := 0 // numbers them, for the merge
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
			f := &follower{node: n, number: agents, agents: t.Agents, request: request, out: in, ready: make(chan struct{})}
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

// awaitAll waits for all channels to be closed, for as long as a call may take.
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
