package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	pb "github.com/underlane/underlane/api/control/v1"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/state"
)

// stranger is a gRPC client that has no certificate and believes anything, or has
// one.
func (c *controller) stranger(certs ...tls.Certificate) *grpc.ClientConn {
	c.t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+c.addr,
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{InsecureSkipVerify: true, Certificates: certs})))
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// strange is a TLS connection of a peer without a certificate, from an address
// of loopback.
func (c *controller) strange(from string) *tls.Conn {
	c.t.Helper()
	conn := tls.Client(c.raw(from), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err := conn.Handshake(); err != nil {
		c.t.Fatal(err)
	}
	return conn
}

func (c *controller) raw(from string) net.Conn {
	c.t.Helper()
	conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).Dial("tcp", c.addr)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// cutOff waits until the other end has closed conn, and fails the test if that
// takes far longer than it may.
func cutOff(t *testing.T, what string, conn net.Conn) {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%s is kept", what)
	}
}

func bootstrap(t *testing.T, conn *grpc.ClientConn, req *pb.BootstrapRequest) error {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err := pb.NewControlClient(conn).Bootstrap(ctx, req)
	return err
}

// What a stranger sends is small; what an agent sends need not be.
func TestStrangersMessages(t *testing.T) {
	c := newController(t)
	stranger := c.stranger()
	for size, want := range map[int]codes.Code{60 << 10: codes.Unauthenticated, 65 << 10: codes.ResourceExhausted, 3 << 20: codes.ResourceExhausted} {
		if err := bootstrap(t, stranger, &pb.BootstrapRequest{Node: "n", Token: strings.Repeat("x", size)}); status.Code(err) != want {
			t.Errorf("%d bytes: %v, want %s", size, err, want)
		}
	}
	large := metadata.AppendToOutgoingContext(t.Context(), "x", strings.Repeat("x", 16<<10))
	if _, err := pb.NewControlClient(stranger).Bootstrap(large, &pb.BootstrapRequest{}); err == nil || status.Code(err) == codes.Unauthenticated {
		t.Errorf("16 KiB of metadata: %v", err)
	}
	c.publish(nil)
	a := c.agent("node-1")
	a.untilConnected()
	cert, err := a.NodeCertificate()
	if err != nil {
		t.Fatal(err)
	}
	renew := &pb.RenewRequest{Csr: make([]byte, 3<<20)}
	if _, err := pb.NewControlClient(c.stranger(*cert)).Renew(t.Context(), renew); status.Code(err) != codes.InvalidArgument {
		t.Errorf("a large message of an agent's: %v", err)
	}
	if _, err := pb.NewControlClient(stranger).Renew(t.Context(), &pb.RenewRequest{}); status.Code(err) != codes.Unauthenticated {
		t.Errorf("a stranger renews: %v", err)
	}
}

// A connection has few calls at once, and none takes for ever.
func TestStrangersCalls(t *testing.T) {
	var running, most, ended atomic.Int64
	l := strangers
	l.call = 300 * time.Millisecond
	c := newController(t, func(c *controller) {
		c.limits = l
		c.auth = func(ctx context.Context, _, _ string) error {
			n := running.Add(1)
			defer running.Add(-1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			<-ctx.Done()
			ended.Add(1)
			return errors.New("no")
		}
	})
	conn := c.stranger()
	var calls sync.WaitGroup
	for range 3 * maxStrangeStreams {
		calls.Go(func() { _ = bootstrap(t, conn, &pb.BootstrapRequest{Node: "n", Token: "x"}) })
	}
	calls.Wait()
	if n := most.Load(); n > maxStrangeStreams || ended.Load() != 3*maxStrangeStreams {
		t.Errorf("%d calls at once, %d ended", n, ended.Load())
	}
}

// A peer that takes no heed of how many streams there may be has them refused.
func TestStrangersStreams(t *testing.T) {
	c := newController(t)
	conn := c.strange("127.0.0.1")
	const more = 10
	out := []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	frame := func(kind, flags byte, stream uint32, payload []byte) {
		out = append(out, 0, byte(len(payload)>>8), byte(len(payload)), kind, flags)
		out = append(binary.BigEndian.AppendUint32(out, stream), payload...)
	}
	frame(4, 0, 0, nil) // SETTINGS
	var head []byte
	for _, f := range [][2]string{
		{":method", "POST"},
		{":scheme", "https"},
		{":path", pb.Control_Bootstrap_FullMethodName},
		{":authority", "x"},
		{"content-type", "application/grpc"},
		{"te", "trailers"},
	} {
		// A literal without indexing (RFC 7541 section 6.2.2).
		head = append(append(append(append(head, 0, byte(len(f[0]))), f[0]...), byte(len(f[1]))), f[1]...)
	}
	for i := range maxStrangeStreams + more {
		frame(1, 4, uint32(2*i+1), head) // HEADERS, END_HEADERS; no message follows
	}
	if _, err := conn.Write(out); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	for refused := 0; refused < more; {
		header := make([]byte, 9)
		if _, err := io.ReadFull(conn, header); err != nil {
			t.Fatalf("%d streams are refused of %d too many: %v", refused, more, err)
		}
		payload := make([]byte, int(header[0])<<16|int(header[1])<<8|int(header[2]))
		if _, err := io.ReadFull(conn, payload); err != nil {
			t.Fatal(err)
		}
		if stream := binary.BigEndian.Uint32(header[5:]); header[3] == 3 { // RST_STREAM
			if refused++; payload[3] != 7 || stream <= 2*maxStrangeStreams {
				t.Errorf("stream %d is reset with %x", stream, payload)
			}
		}
	}
}

// A silent peer is disconnected, at whatever stage it is.
func TestSilentStrangers(t *testing.T) {
	c := newController(t, func(c *controller) {
		c.limits.handshake, c.limits.idle, c.limits.age, c.limits.grace = 3*time.Second, 3*time.Second, 4*time.Second, time.Second
	})
	for name, open := range map[string]func(t *testing.T) net.Conn{
		"no TLS":    func(*testing.T) net.Conn { return c.raw("127.0.0.1") },
		"no HTTP/2": func(*testing.T) net.Conn { return c.strange("127.0.0.1") },
		"no call": func(t *testing.T) net.Conn {
			conn := c.strange("127.0.0.1")
			// The preface and an empty SETTINGS frame.
			if _, err := conn.Write([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")); err != nil {
				t.Fatal(err)
			}
			return conn
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cutOff(t, name, open(t))
		})
	}
	t.Run("a call without its message", func(t *testing.T) {
		t.Parallel()
		stream, err := c.stranger().NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true}, pb.Control_Bootstrap_FullMethodName)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		ended := make(chan error, 1)
		go func() { ended <- stream.RecvMsg(&pb.BootstrapResponse{}) }()
		select {
		case <-ended:
		case <-ctx.Done():
			t.Error("it is kept")
		}
	})
}

// Any number of strangers keep out neither agents nor each other.
func TestManyStrangers(t *testing.T) {
	c := newController(t, func(c *controller) {
		c.limits.conns, c.limits.fromOne = 8, 3
		c.limits.handshake, c.limits.idle = time.Minute, time.Minute
	})
	c.publish(nil)
	before := c.agent("before")
	before.untilConnected()
	since := before.Status().Since
	var held []net.Conn
	for i := range 6 { // 24 of them, half of which have no TLS yet
		for n := range 4 {
			from := fmt.Sprintf("127.0.0.%d", 10+i)
			if n%2 == 0 {
				held = append(held, c.raw(from))
			} else {
				held = append(held, c.strange(from))
			}
		}
	}
	kept := 0
	deadline := time.Now().Add(10 * time.Second)
	for kept = len(held); kept > 8 && time.Now().Before(deadline); {
		kept = 0
		for _, conn := range held {
			_ = conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
			if _, err := conn.Read(make([]byte, 1<<10)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				kept++
			}
		}
	}
	if n := c.front.strangers.Len(); kept > 8 || n > 8 {
		t.Errorf("%d connections are kept, %d in the crowd", kept, n)
	}
	after := c.agent("after") // bootstraps as a stranger first
	after.untilConnected()
	for range 20 {
		c.raw("127.0.0.10")
	}
	c.publish([]*mesh.Workload{pod("a", "before", podA)})
	before.until("state that is newer than the strangers", func(v *state.View) bool { return len(v.Local()) == 1 })
	if st := before.Status(); !st.Connected || st.Since != since {
		t.Errorf("%+v", st)
	}
}

// The name that a stranger gives is checked, and cut where it is shown.
func TestStrangersNames(t *testing.T) {
	var log lockedBuffer
	c := newController(t, func(c *controller) { c.log = slog.New(slog.NewTextHandler(&log, nil)) })
	conn := c.stranger()
	for _, name := range []string{strings.Repeat("x", 50<<10), "a\nlevel=ERROR msg=forged", "Node", "-a", "a..b", "\x1b[2J", "ä", strings.Repeat("a.", 200) + "a"} {
		err := bootstrap(t, conn, &pb.BootstrapRequest{Node: name, Token: "x"})
		if status.Code(err) != codes.InvalidArgument || len(err.Error()) > 1<<10 || strings.ContainsAny(err.Error(), "\n\x1b") {
			t.Errorf("%.20q: %.2000v", name, err)
		}
	}
	for _, name := range []string{"node-1", "ip-10-0-0-1.eu-west-1.compute.internal", "1"} {
		if err := bootstrap(t, conn, &pb.BootstrapRequest{Node: name, Token: "x"}); status.Code(err) != codes.Unauthenticated {
			t.Errorf("%s: %v", name, err)
		}
	}
	if text := log.String(); len(text) > 4<<10 || strings.Contains(text, "\nlevel=ERROR") || !strings.Contains(text, "bootstrap refused") {
		t.Errorf("logged: %.4000s", text)
	}
}

func TestShown(t *testing.T) {
	for text, want := range map[string]string{
		"node-1": "node-1", "a\nb\x1b[1m": "a?b?[1m", "0123456789abc": "0123456789…", "012345678äö": "012345678…", "\xff": "?", "": "",
	} {
		if got := shown(text, 10); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string { l.mu.Lock(); defer l.mu.Unlock(); return l.b.String() }
