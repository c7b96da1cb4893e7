package client

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/underlane/underlane/api/control/v1"
	"github.com/underlane/underlane/pkg/control"
	"github.com/underlane/underlane/pkg/control/codec"
	"github.com/underlane/underlane/pkg/limit/lease"
)

// Limits are those that the pods of this node share with those of others.
type Limits struct {
	Table *lease.Table
	// Now is the clock with which requests are counted.
	Now func() time.Duration
	// Needed reports whether pods of the node have such limits.
	Needed func() bool
}

// lease keeps a stream for leases to the controller that lends, while there are limits, until
// ctx ends.
func (c *Client) lease(ctx context.Context) {
	var wait backoff
	leader := "" // the agent's own controller
	for ctx.Err() == nil {
		pause := lease.Every
		if c.opt.Limits.Needed() {
			next, had, err := c.leases(ctx, leader)
			if had {
				wait.reset()
			}
			if next != "" && leader == "" { // one step: two controllers may each say the other
				leader = next
				continue
			}
			leader = ""
			if err != nil && ctx.Err() == nil {
				c.opt.Log.Debug("no leases of limits", "cause", err)
				pause = max(pause, wait.next())
			}
			switch status.Code(err) {
			case codes.Unimplemented: // the controller is older
				pause = time.Minute
			case codes.Aborted: // the next agent of the node has taken over
				pause = replacedPause
			}
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// replacedPause is how long an agent leaves the node's leases to another one, which has taken
// over while this one lets its connections end.
const replacedPause = 30 * time.Second

// errNoLeader: the controller does not lead, and does not know who does.
var errNoLeader = errors.New("the controller that lends is not known")

// leases runs one stream, to the agent's controller or to the leader, if one is given. It
// returns the leader if that is another one. had: there was an answer.
func (c *Client) leases(ctx context.Context, leader string) (next string, had bool, err error) {
	conn, err := c.connected()
	if err == nil && leader != "" {
		cert, ok := c.creds.valid()
		if !ok {
			return "", false, ErrDisconnected
		}
		if conn, err = c.dialTo(leader, cert); err == nil {
			defer conn.Close()
		}
	}
	if err != nil {
		return "", false, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := pb.NewControlClient(conn).Limits(ctx)
	if err != nil {
		return "", false, err
	}
	l := c.opt.Limits
	answers, ended := control.Receive(ctx, stream.Recv)
	reporter := l.Table.Reporter()
	tick := time.NewTicker(lease.Every)
	defer tick.Stop()
	for {
		report, more := reporter.Report(l.Now())
		if err := stream.Send(codec.EncodeReport(report)); err != nil {
			return causeOf(answers, ended)
		}
		for again := more; !again; {
			select {
			case m := <-answers:
				if m.GetNumber() == 0 {
					return m.GetLeader(), false, errNoLeader
				}
				had = true
				again = reporter.Apply(l.Now(), codec.DecodeLeases(m))
			case <-l.Table.Wake():
				again = true
			case <-tick.C:
				if !l.Needed() {
					return "", had, nil
				}
				again = true
			case err := <-ended:
				return "", had, err
			case <-ctx.Done():
				return "", had, ctx.Err()
			}
		}
	}
}

// causeOf returns why a stream ended that takes no more messages: the error of Send is only
// io.EOF. A controller that does not lead says who does before it ends the stream.
func causeOf(answers <-chan *pb.LimitLeases, ended <-chan error) (next string, had bool, err error) {
	for {
		select {
		case m := <-answers:
			if m.GetNumber() == 0 {
				return m.GetLeader(), false, errNoLeader
			}
		case err := <-ended:
			return "", false, err
		}
	}
}
