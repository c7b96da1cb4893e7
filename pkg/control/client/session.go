package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc"

	pb "github.com/underlane/underlane/api/control/v1"
	"github.com/underlane/underlane/pkg/control"
	"github.com/underlane/underlane/pkg/control/codec"
)

// errRenewed ends a session after the node certificate was renewed. The next
// session uses the new certificate.
var errRenewed = errors.New("the node certificate was renewed")

// bootstrapTimeout bounds the calls at the start of a session, connection included. When all
// agents of a large cluster start at once, the handshake has its turn after some seconds.
const bootstrapTimeout = 25 * time.Second

// session runs one stream. ready reports whether a delta has arrived on it.
func (c *Client) session(ctx context.Context) (ready bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := c.bootstrap(ctx); err != nil {
		return false, err
	}
	cert, ok := c.creds.valid()
	if !ok {
		return false, errors.New("the node certificate expired as soon as it was issued: do the clocks agree?")
	}
	conn, err := c.dial(cert)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	stream, err := pb.NewControlClient(conn).Sync(ctx)
	if err != nil {
		return false, err
	}
	err = stream.Send(&pb.SyncRequest{
		Subscribe: codec.EncodeAddrs(c.interest.all()), Versions: c.opt.Store.Versions(),
		Agent: &pb.Agent{Version: c.opt.Version, Kinds: []string{control.KindRoute, control.KindRanges, control.KindAuthz, control.KindEgress}, LateAnswers: true},
		Pods:  c.reports.all(),
	})
	if err != nil {
		_, err = stream.Recv() // the error of Send is only io.EOF
		return false, err
	}
	deltas, ended := control.Receive(ctx, stream.Recv)
	renew := time.NewTimer(renewIn(cert.Leaf.NotAfter, time.Now()))
	defer renew.Stop()
	sweep := time.NewTicker(max(c.opt.IdleAfter/10, time.Millisecond))
	defer sweep.Stop()
	owed := newOwed()
	defer owed.stop()
	for {
		request := &pb.SyncRequest{}
		select {
		case d := <-deltas:
			answer := c.apply(d)
			c.deltas.Add(1)
			if !ready {
				ready = true
				c.setConn(conn, nil)
			} else {
				c.wakeWaiters()
			}
			if owed.add(answer, d.GetAnswerWithinMs()) {
				continue
			}
		case <-owed.due:
		case <-c.interest.wake:
			subscribe, unsubscribe := c.interest.take()
			request.Subscribe, request.Unsubscribe = codec.EncodeAddrs(subscribe), codec.EncodeAddrs(unsubscribe)
		case <-c.reports.wake:
			if request.Pods = c.reports.take(); len(request.Pods) == 0 {
				continue
			}
		case <-c.stale.wake:
			if request.StaleKeys = c.stale.take(); len(request.StaleKeys) == 0 {
				continue
			}
		case <-sweep.C:
			c.interest.sweep()
			continue
		case <-renew.C:
			err := c.renew(ctx, conn)
			if err == nil {
				return ready, errRenewed
			}
			c.opt.Log.Warn("renewal of the node certificate failed: trying again", "err", err)
			renew.Reset(max(time.Until(cert.Leaf.NotAfter)/10, 100*time.Millisecond))
			continue
		case err := <-ended:
			return ready, err
		case <-ctx.Done():
			return ready, ctx.Err()
		}
		request.Answer = owed.take()
		if err := stream.Send(request); err != nil {
			return ready, cause(deltas, ended)
		}
	}
}

// cause returns why the stream ended, because the error of Send is only io.EOF.
func cause(deltas <-chan *pb.Delta, ended <-chan error) error {
	for {
		select {
		case <-deltas: // the answer can no longer be sent; the next stream sends the delta again
		case err := <-ended:
			return err
		}
	}
}

// bootstrap gets a node certificate if there is no valid one.
func (c *Client) bootstrap(ctx context.Context) error {
	if _, ok := c.creds.valid(); ok {
		return nil
	}
	conn, err := c.dial(nil)
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, bootstrapTimeout)
	defer cancel()
	return c.creds.bootstrap(ctx, conn)
}

func (c *Client) renew(ctx context.Context, conn *grpc.ClientConn) error {
	ctx, cancel := context.WithTimeout(ctx, bootstrapTimeout)
	defer cancel()
	return c.creds.renew(ctx, conn)
}

// apply applies d to the store and returns the answer to it.
func (c *Client) apply(d *pb.Delta) *pb.Answer {
	answer := &pb.Answer{Nonce: d.GetNonce()}
	delta, skipped, err := codec.DecodeDelta(d)
	for _, why := range skipped {
		c.skipped.Add(1)
		c.opt.Log.Warn("left out what this agent does not understand: is the controller newer?", "version", d.GetVersion(), "err", why)
	}
	if err == nil {
		err = c.opt.Store.Apply(delta)
	}
	if err != nil {
		c.nacks.Add(1)
		answer.Error = err.Error()
		c.opt.Log.Error("refused a delta of the controller: keeping the state before it", "version", d.GetVersion(), "err", err)
	}
	return answer
}

// renewIn returns the time from now until 70 % of the remaining life of a
// certificate has passed. It varies by 5 % at random, so that nodes that started
// together do not renew together.
func renewIn(notAfter, now time.Time) time.Duration {
	share := 0.65 + 0.1*rand.Float64()
	return max(time.Duration(float64(notAfter.Sub(now))*share), 0)
}
