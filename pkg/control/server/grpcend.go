package server

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"github.com/underlane/underlane/pkg/control"
)

// grpcEnd is a gRPC server and its listener. Accept returns the connections that
// were passed to take.
type grpcEnd struct {
	grpc  *grpc.Server
	addr  net.Addr
	conns chan net.Conn
	once  sync.Once
	ended chan struct{}
}

func newGRPCEnd(opts ...grpc.ServerOption) *grpcEnd {
	opts = append(opts,
		grpc.Creds(shaken{}),
		grpc.ForceServerCodecV2(newDeltaCodec()),
		// Agents ping every control.KeepaliveTime.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: control.KeepaliveTime / 2, PermitWithoutStream: true}),
	)
	return &grpcEnd{grpc: grpc.NewServer(opts...), conns: make(chan net.Conn), ended: make(chan struct{})}
}

func (b *grpcEnd) take(conn net.Conn) {
	select {
	case b.conns <- conn:
	case <-b.ended:
		_ = conn.Close()
	}
}

// Accept returns the next connection that was passed to take.
func (b *grpcEnd) Accept() (net.Conn, error) {
	select {
	case conn := <-b.conns:
		return conn, nil
	case <-b.ended:
		return nil, net.ErrClosed
	}
}

// Close ends Accept.
func (b *grpcEnd) Close() error {
	b.once.Do(func() { close(b.ended) })
	return nil
}

// Addr returns the address of the Front's listener.
func (b *grpcEnd) Addr() net.Addr { return b.addr }

// shaken are transport credentials for connections whose handshake is already done.
type shaken struct{}

func (shaken) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	over, ok := conn.(*tls.Conn)
	if !ok {
		return nil, nil, errors.New("no TLS")
	}
	return conn, credentials.TLSInfo{
		State: over.ConnectionState(), CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity},
	}, nil
}

func (shaken) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("these credentials are for servers only")
}

func (shaken) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}
func (s shaken) Clone() credentials.TransportCredentials { return s }
func (shaken) OverrideServerName(string) error           { return nil }
