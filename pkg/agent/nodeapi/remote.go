package nodeapi

import (
	"context"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"github.com/underlane/underlane/pkg/listener/crowd"
	"github.com/underlane/underlane/pkg/mtls"
)

// ServeTLS serves only the controller, on ln until ctx ends. The number of connections
// that have not authenticated as the controller is bounded, so that they use up neither
// the descriptors that the pods' traffic needs nor the controller's share.
func (s *Server) ServeTLS(ctx context.Context, ln net.Listener, c Credentials) error {
	strangers := &crowd.Crowd{Total: maxStrangers, Each: maxFromOne, PerSecond: connsPerSecond}
	if c.Gate == nil {
		c.Gate = mtls.NewGate(mtls.GateOptions{Slots: 1})
	}
	return s.Serve(ctx, strangers.Listen(ln),
		grpc.Creds(admitting{credentials.NewTLS(c.TLS()), c.Gate}),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.MaxRecvMsgSize(64<<10), // requests are small
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: maxConnAge, Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
	)
}

// admitting wraps credentials. Handshakes take their turn at the node's gate. When a peer
// has authenticated, its connection does not count as a stranger's any more.
type admitting struct {
	credentials.TransportCredentials
	gate *mtls.Gate
}

func (a admitting) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	below, err := a.gate.Conn(context.Background(), raw, crowd.Source(raw))
	if err != nil {
		return nil, nil, err
	}
	conn, info, err := a.TransportCredentials.ServerHandshake(below)
	below.End(err == nil)
	if err == nil {
		crowd.Known(raw)
	}
	return conn, info, err
}

func (a admitting) Clone() credentials.TransportCredentials {
	return admitting{a.TransportCredentials.Clone(), a.gate}
}
