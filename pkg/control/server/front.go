package server

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/underlane/underlane/pkg/control"
	"github.com/underlane/underlane/pkg/listener/crowd"
	"github.com/underlane/underlane/pkg/mtls/certchain"
)

// limits bound the peers without a certificate. Every agent is such a peer until it
// has bootstrapped. Bootstrap is one small call, during which the API server
// reviews the token.
type limits struct {
	conns     int           // connections, including those whose handshake is not finished
	fromOne   int           // connections from one address
	perSecond int           // new connections from one address, beyond burst; 0: no limit
	burst     int           // new connections from one address at once
	handshake time.Duration // time for the TLS handshake, and again for HTTP/2's
	call      time.Duration // time for a call, from the arrival of its message
	idle      time.Duration // time without a call until the connection is closed
	age       time.Duration // of a connection; after this it accepts no further call
	grace     time.Duration // time after age until running calls are cut
}

var strangers = limits{
	conns: 512, fromOne: 32, perSecond: 20, burst: 64,
	handshake: 5 * time.Second, call: 15 * time.Second, idle: 5 * time.Second, age: 20 * time.Second, grace: 10 * time.Second,
}

const (
	maxStrangeMessage = 64 << 10
	maxStrangeStreams = 4       // concurrent streams of a connection
	maxStrangeHeaders = 8 << 10 // bytes of a call's metadata
)

// writeBuffer is for what is written to a known peer at once.
const writeBuffer = 8 << 10

// Front serves the controller's port. It does the TLS handshake before gRPC sees a
// connection, and then gives the connection to one of two gRPC servers. There are
// two because gRPC sets limits for a whole server, and peers without a certificate
// get tighter limits. Connections from nodes' addresses, from which agents come, are apart
// from the others until they have a certificate: they wait for each other.
type Front struct {
	tls       *tls.Config
	limits    limits
	isNode    func(netip.Addr) bool
	strangers crowd.Crowd
	nodes     crowd.Crowd // those from nodes' addresses; limited for each address
	queue     *queue      // of them
	known     *grpcEnd
	unknown   *grpcEnd

	mu      sync.Mutex
	ln      net.Listener
	stopped bool
	shaking sync.WaitGroup
}

// NewFront returns a Front with the configuration from TLSConfig. Both of its gRPC
// servers serve the services that register adds. isNode reports whether an address is that of
// a node of the cluster; nil: none is known to be.
func NewFront(cfg *tls.Config, isNode func(netip.Addr) bool, register func(grpc.ServiceRegistrar)) *Front {
	return newFront(cfg, strangers, isNode, register)
}

func newFront(cfg *tls.Config, l limits, isNode func(netip.Addr) bool, register func(grpc.ServiceRegistrar)) *Front {
	if isNode == nil {
		isNode = func(netip.Addr) bool { return false }
	}
	f := &Front{
		tls: cfg, limits: l, isNode: isNode,
		strangers: crowd.Crowd{Total: l.conns, Each: l.fromOne, PerSecond: l.perSecond, Burst: l.burst},
		nodes:     crowd.Crowd{Total: maxQueued, Each: maxFromNode, PerSecond: l.perSecond, Burst: l.burst},
		known: newGRPCEnd(
			grpc.MaxRecvMsgSize(16<<20), // the first request of a large node is long: it names all versions that the node holds
			// There are thousands of connections, which are idle most of the time: by default each
			// keeps 32 KiB for reading. TLS has a buffer of its own, so that to read little costs
			// no system call. Buffers for writing are shared.
			grpc.ReadBufferSize(0),
			// Most of what is written is a small delta. A buffer is in use while the writer lets
			// others run, which hundreds do at once after a publication.
			grpc.WriteBufferSize(writeBuffer),
			// By default each message from an agent, which is an answer, is followed by a ping to
			// find out how large the window should be: a system call more at both ends.
			grpc.StaticStreamWindowSize(control.ServerWindow), grpc.StaticConnWindowSize(control.ServerWindow),
			grpc.KeepaliveParams(keepalive.ServerParameters{Time: control.KeepaliveTime, Timeout: control.KeepaliveTimeout}),
		),
		unknown: newGRPCEnd(
			grpc.ConnectionTimeout(l.handshake),
			grpc.MaxRecvMsgSize(maxStrangeMessage),
			grpc.MaxConcurrentStreams(maxStrangeStreams),
			grpc.MaxHeaderListSize(maxStrangeHeaders),
			grpc.StaticStreamWindowSize(maxStrangeMessage),
			grpc.StaticConnWindowSize(maxStrangeMessage),
			grpc.ReadBufferSize(4<<10), grpc.WriteBufferSize(4<<10),
			grpc.KeepaliveParams(keepalive.ServerParameters{
				MaxConnectionIdle: l.idle, MaxConnectionAge: l.age, MaxConnectionAgeGrace: l.grace,
				Time: control.KeepaliveTime, Timeout: control.KeepaliveTimeout,
			}),
			grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
				ctx, cancel := context.WithTimeout(ctx, l.call)
				defer cancel()
				return handle(ctx, req)
			}),
		),
	}
	f.queue = &queue{admit: func(conn net.Conn) { f.admit(conn, shakeTime) }, most: maxQueued, turns: shakeAtOnce, wait: maxWait}
	register(f.known.grpc)
	register(f.unknown.grpc)
	return f
}

// Serve serves on ln until Stop or GracefulStop, and closes ln. It fails when
// Accept fails.
func (f *Front) Serve(ln net.Listener) error {
	defer ln.Close()
	f.mu.Lock()
	if f.stopped {
		f.mu.Unlock()
		return nil
	}
	f.ln = ln
	f.mu.Unlock()
	var serving sync.WaitGroup
	for _, b := range []*grpcEnd{f.known, f.unknown} {
		b.addr = ln.Addr()
		serving.Go(func() { _ = b.grpc.Serve(b) })
	}
	err := f.accept(ln)
	f.mu.Lock()
	stopped := f.stopped
	f.mu.Unlock()
	if !stopped {
		f.Stop()
	}
	serving.Wait()
	if stopped {
		return nil
	}
	return err
}

func (f *Front) accept(ln net.Listener) error {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return err
		}
		if f.isNode(crowd.Source(conn)) {
			if c := f.nodes.Admit(conn); c != nil {
				f.queue.put(c)
			}
			continue
		}
		c := f.strangers.Admit(conn)
		if c == nil {
			continue
		}
		f.mu.Lock()
		if f.stopped {
			_ = c.Close()
		} else {
			f.shaking.Go(func() { f.admit(c, f.limits.handshake) })
		}
		f.mu.Unlock()
	}
}

// admit does the handshake and gives the connection to a gRPC server. The limit on
// peers without a certificate also limits the handshakes that run at once, and the queue those of
// nodes.
func (f *Front) admit(conn net.Conn, within time.Duration) {
	below := certchain.NewConn(conn)
	over := tls.Server(below, f.tls)
	_ = conn.SetDeadline(time.Now().Add(within))
	if over.Handshake() != nil || over.ConnectionState().NegotiatedProtocol != "h2" {
		_ = conn.Close()
		return
	}
	_ = conn.SetDeadline(time.Time{})
	below.Done()
	if len(over.ConnectionState().PeerCertificates) == 0 {
		f.unknown.take(over)
		return
	}
	crowd.Known(conn)
	f.known.take(over)
}

// Stop closes the listener and all connections.
func (f *Front) Stop() {
	f.close()
	f.unknown.grpc.Stop()
	f.known.grpc.Stop()
	f.await()
}

// GracefulStop closes the listener and the connections without a certificate, and
// waits for the calls of the others to end.
func (f *Front) GracefulStop() {
	f.close()
	f.unknown.grpc.Stop()
	f.known.grpc.GracefulStop()
	f.await()
}

// await waits for the handshakes to end.
func (f *Front) await() {
	f.shaking.Wait()
	f.queue.done.Wait()
}

// Evicted returns the number of connections without a certificate that were closed
// because there were too many, or too many in a short time, or because their turn came too late.
func (f *Front) Evicted() uint64 {
	return f.strangers.Evicted() + f.strangers.Refused() + f.nodes.Evicted() + f.nodes.Refused() + f.queue.Late()
}

func (f *Front) close() {
	f.mu.Lock()
	f.stopped = true
	ln := f.ln
	f.mu.Unlock()
	if ln != nil {
		_ = ln.Close()
	}
	f.queue.close()
	_ = f.unknown.Close()
	_ = f.known.Close()
}
