// Package authorizer asks external authorizers about requests. A question goes to an endpoint
// of the authorizer's Service as a connection of the pod's own would: from its namespace,
// with its identity, over the pools of package upstream. Package extauth makes the bytes.
package authorizer

import (
	"context"
	"errors"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/underlane/underlane/pkg/fairshare"
	"github.com/underlane/underlane/pkg/l7proxy/destination"
	"github.com/underlane/underlane/pkg/l7proxy/endpoints"
	"github.com/underlane/underlane/pkg/l7proxy/extauth"
	"github.com/underlane/underlane/pkg/l7proxy/http1"
	"github.com/underlane/underlane/pkg/l7proxy/quota"
	"github.com/underlane/underlane/pkg/l7proxy/upstream"
	"github.com/underlane/underlane/pkg/mesh"
)

// questionsMost bounds the questions of a node that are under way.
const questionsMost = 4096

// triesMost is how many endpoints are tried for a question.
const triesMost = 3

// Asker asks the authorizers of a node. The zero value is ready to use when Pool and Ended
// are set. Its methods are safe for concurrent use.
type Asker struct {
	Pool  *upstream.Pool
	Ended context.Context // ends with the proxy

	asking atomic.Int64
}

// Asking returns the number of questions that are under way.
func (k *Asker) Asking() int { return int(k.asking.Load()) }

// Question is one question about one request.
type Question struct {
	To      *destination.Authorizer
	As      *mesh.ExternalAuth
	Message []byte     // of extauth
	Kind    http1.Kind // HTTP: of Message
	// Present reports whether the request has a field, with its name in lower case. The
	// goroutine of Ask calls it.
	Present func(name string) bool

	Until time.Time // when the request itself ends; zero: it has no limit

	Usage   *quota.Usage       // is charged with descriptors and bytes that wait
	Account *fairshare.Account // that the processor time is charged to; nil: none
}

// ErrBusy means that too many questions are under way.
var ErrBusy = errors.New("too many questions to external authorizers are under way")

// Ask asks, and waits for the answer. Its error is ErrBusy, or says why there is no answer
// that counts.
func (k *Asker) Ask(q *Question) (extauth.Answer, error) {
	if k.asking.Add(1) > questionsMost {
		k.asking.Add(-1)
		return extauth.Answer{}, ErrBusy
	}
	defer k.asking.Add(-1)
	if !q.To.Enter() {
		return extauth.Answer{}, ErrBusy
	}
	defer q.To.Leave()
	q.To.Learn() // the time limit is the authorizer's, and not the controller's
	until := time.Now().Add(q.As.Limit())
	if !q.Until.IsZero() && q.Until.Before(until) {
		until = q.Until
	}
	ctx, cancel := context.WithDeadline(k.Ended, until)
	defer cancel()
	var failed error
	var exclude []netip.AddrPort
	for range triesMost {
		a := new(endpoints.Attempt)
		if err := q.To.Pick(a, exclude...); err != nil {
			return extauth.Answer{}, errors.Join(failed, err)
		}
		a.Usage = q.Usage
		answer, err := k.ask(ctx, q, a)
		others := a.HasOthers
		a.Done()
		if err == nil || ctx.Err() != nil || !others || !upstream.TriesNextEndpoint(upstream.ReasonOf(err)) {
			return answer, err
		}
		failed, exclude = err, append(exclude, a.Peer.Addr)
	}
	return extauth.Answer{}, failed
}

func (k *Asker) ask(ctx context.Context, q *Question, a *endpoints.Attempt) (extauth.Answer, error) {
	if q.As.GRPC {
		return k.check(ctx, q, a)
	}
	return k.request(ctx, q, a)
}

// client is the pod that asks, as a client of connections to the authorizer.
type client struct{ q *Question }

// ports are those that the authorizer sees of clients on its own node.
var ports atomic.Uint32

// ClientAddr implements upstream.Client. The port is made up: the connection is the pod's,
// and no socket of the pod has one.
func (c client) ClientAddr() netip.AddrPort {
	return netip.AddrPortFrom(c.q.To.Client().Addr(), uint16(32768+ports.Add(1)%28232))
}

// Usage implements upstream.Client.
func (c client) Usage() *quota.Usage { return c.q.Usage }

// KeepsConnections implements upstream.Client.
func (client) KeepsConnections() bool { return false }

// ConnectionEnded implements upstream.Client.
func (client) ConnectionEnded() {}

// deadline returns the deadline of ctx, which has one.
func deadline(ctx context.Context) time.Time {
	at, _ := ctx.Deadline()
	return at
}
