package control

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
)

// metered is a connection on which the peer may send so many bytes; -1 is any
// number.
type metered struct {
	net.Conn
	left int
}

var errTooMuch = errors.New("more than a handshake has")

func (m *metered) Read(p []byte) (int, error) {
	if m.left < 0 {
		return m.Conn.Read(p)
	}
	if m.left == 0 {
		return 0, errTooMuch
	}
	n, err := m.Conn.Read(p[:min(len(p), m.left)])
	m.left -= n
	return n, err
}

// NetConn is the connection below.
func (m *metered) NetConn() net.Conn { return m.Conn }

// backend is a gRPC server and, as its listener, the connections that it is given.
type backend struct {
	grpc  *grpc.Server
	addr  net.Addr
	conns chan net.Conn
	once  sync.Once
	ended chan struct{}
}

func newBackend(opts ...grpc.ServerOption) *backend {
	opts = append(opts,
		grpc.Creds(shaken{}),
		// What Clients do.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: keepaliveTime / 2, PermitWithoutStream: true}),
	)
	return &backend{grpc: grpc.NewServer(opts...), conns: make(chan net.Conn), ended: make(chan struct{})}
}

func (b *backend) take(conn net.Conn) {
	select {
	case b.conns <- conn:
	case <-b.ended:
		_ = conn.Close()
	}
}

// Accept returns the next connection that was taken.
func (b *backend) Accept() (net.Conn, error) {
	select {
	case conn := <-b.conns:
		return conn, nil
	case <-b.ended:
		return nil, net.ErrClosed
	}
}

// Close ends Accept.
func (b *backend) Close() error {
	b.once.Do(func() { close(b.ended) })
	return nil
}

// Addr is that of the port.
func (b *backend) Addr() net.Addr { return b.addr }

// shaken are the credentials of connections whose handshake is over.
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
	return nil, nil, errors.New("for servers only")
}

func (shaken) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}
func (s shaken) Clone() credentials.TransportCredentials { return s }
func (shaken) OverrideServerName(string) error           { return nil }
