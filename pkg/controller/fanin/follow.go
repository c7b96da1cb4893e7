package fanin

import (
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
)

// follower keeps the tap of one node running, and warns while it cannot.
type follower struct {
	node    Node
	number  int
	agents  *Agents
	request *agentv1.TapRequest
	tap     *Tap
	out     chan<- report

	ready chan struct{} // closed when the tap has begun or has failed for the first time
	once  sync.Once
}

const (
	firstPause = 500 * time.Millisecond
	lastPause  = 10 * time.Second
)

func (f *follower) run(ctx context.Context) {
	defer f.settled()
	pause, silent := firstPause, false
	for {
		err := f.listen(ctx, func() {
			f.settled()
			if silent && f.named() {
				f.warn(ctx, fmt.Sprintf("%s is heard again", f.node.Name))
			}
			pause, silent = firstPause, false
		})
		f.settled()
		if ctx.Err() != nil {
			return
		}
		if !silent {
			silent = true
			if f.named() {
				f.warn(ctx, fmt.Sprintf("%s is not heard: %s", f.node.Name, why(err)))
			} else {
				f.tap.unnamed.Do(func() { f.warn(ctx, "what agents on the nodes of other namespaces' pods see is missing in part") })
			}
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
		pause = min(2*pause, lastPause)
	}
}

// named reports whether warnings may name the node.
func (f *follower) named() bool { return f.tap.May == nil || f.tap.May(f.node.Name) }

func (f *follower) settled() { f.once.Do(func() { close(f.ready) }) }

// listen passes on one stream. It calls heard when the stream has begun.
func (f *follower) listen(ctx context.Context, heard func()) error {
	conn, err := f.agents.dial(f.node)
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	tooLong := time.AfterFunc(callTimeout, cancel)
	stream, err := agentv1.NewNodeClient(conn).Tap(ctx, f.request)
	if err != nil {
		return err
	}
	// An agent that refuses sends no header: Recv returns its error.
	if head, err := stream.Header(); err != nil || head == nil {
		if _, err = stream.Recv(); err != nil && !tooLong.Stop() {
			return fmt.Errorf("its agent (%s) does not answer", f.node.Address)
		}
		return err
	}
	if !tooLong.Stop() {
		return fmt.Errorf("its agent (%s) does not answer", f.node.Address)
	}
	heard()
	for {
		batch, err := stream.Recv()
		if err != nil {
			return err
		}
		if !f.pass(ctx, batch) {
			return ctx.Err()
		}
	}
}

func (f *follower) warn(ctx context.Context, text string) {
	f.pass(ctx, &agentv1.TapEvents{Warnings: []string{text}})
}

func (f *follower) pass(ctx context.Context, batch *agentv1.TapEvents) bool {
	select {
	case f.out <- report{f.number, batch}:
		return true
	case <-ctx.Done():
		return false
	}
}

// why returns a description of err for users.
func why(err error) string {
	st, ok := status.FromError(err)
	if !ok {
		return err.Error()
	}
	if st.Code() == codes.Unavailable {
		return "no connection to its agent: " + st.Message()
	}
	return st.Message()
}
