package nodeapi

import (
	"context"
	"net"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
)

// ServeTLS serves the controller, and nobody else, on ln until ctx ends.
func (s *Server) ServeTLS(ctx context.Context, ln net.Listener, c Credentials) error {
	return s.Serve(ctx, &boundedListener{Listener: ln, limit: maxRemoteConns},
		grpc.Creds(credentials.NewTLS(c.TLS())),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.MaxRecvMsgSize(64<<10), // requests are small
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: maxConnAge, Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
	)
}

// boundedListener hangs up on whoever comes when limit connections are open, so
// that strangers cannot take the descriptors that the pods' traffic needs.
type boundedListener struct {
	net.Listener
	limit int64
	open  atomic.Int64
}

func (l *boundedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err // as it is: gRPC looks at it
		}
		if l.open.Add(1) <= l.limit {
			return &boundedConn{Conn: conn, open: &l.open}, nil
		}
		l.open.Add(-1)
		_ = conn.Close()
	}
}

type boundedConn struct {
	net.Conn
	open   *atomic.Int64
	closed atomic.Bool
}

func (c *boundedConn) Close() error {
	if !c.closed.Swap(true) {
		c.open.Add(-1)
	}
	return c.Conn.Close()
}
