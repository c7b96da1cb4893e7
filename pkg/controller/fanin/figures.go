package fanin

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
)

const (
	// maxFigures bounds the answer of one agent.
	maxFigures = 16 << 20
	// keepFor is how long an unused connection is kept.
	keepFor = 5 * time.Minute
)

// Kept are connections to agents that stay open between calls, because the same questions
// come again every few seconds, and handshakes with hundreds of nodes take longer than
// the answers. The zero value is ready to use. Close must be called.
type Kept struct {
	mu     sync.Mutex
	conns  map[Node]*kept
	closed bool
}

type kept struct {
	conn *grpc.ClientConn
	used time.Time
}

// conn returns the connection to n, which gRPC makes at the first call.
func (k *Kept) conn(a *Agents, n Node, now time.Time) (*grpc.ClientConn, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return nil, context.Canceled
	}
	if c := k.conns[n]; c != nil {
		c.used = now
		return c.conn, nil
	}
	conn, err := a.dial(n)
	if err != nil {
		return nil, err
	}
	if k.conns == nil {
		k.conns = map[Node]*kept{}
	}
	k.conns[n] = &kept{conn, now}
	return conn, nil
}

// sweep closes connections that were not used lately, such as those to nodes that are gone.
func (k *Kept) sweep(now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for n, c := range k.conns {
		if now.Sub(c.used) > keepFor {
			_ = c.conn.Close()
			delete(k.conns, n)
		}
	}
}

// Close closes all connections. Calls that are under way fail.
func (k *Kept) Close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
	for n, c := range k.conns {
		_ = c.conn.Close()
		delete(k.conns, n)
	}
}

// Figures asks the agents of nodes at once. The i-th response or error belongs to the i-th
// node. Errors are sentences for users.
func (a *Agents) Figures(ctx context.Context, kept *Kept, nodes []Node, r *agentv1.FiguresRequest) ([]*agentv1.FiguresResponse, []error) {
	return ask(ctx, a, kept, nodes, "remembers no figures", func(ctx context.Context, conn *grpc.ClientConn) (*agentv1.FiguresResponse, error) {
		return agentv1.NewNodeClient(conn).Figures(ctx, r, grpc.MaxCallRecvMsgSize(maxFigures))
	})
}
