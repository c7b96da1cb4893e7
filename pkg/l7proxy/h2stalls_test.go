package l7proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/underlane/underlane/pkg/l7proxy/http2"
	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/l7proxy/quota"
	"github.com/underlane/underlane/pkg/mesh"
)

// stallBackend is a grpc-go server: a method whose name ends in Deaf reads nothing, one
// in Flood sends without end, and any other echoes each message.
func stallBackend(t *testing.T, options ...grpc.ServerOption) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	handler := func(_ any, s grpc.ServerStream) error {
		method, _ := grpc.MethodFromServerStream(s)
		switch {
		case strings.HasSuffix(method, "Deaf"):
			<-s.Context().Done()
			return nil
		case strings.HasSuffix(method, "Flood"):
			for m := wrapperspb.Bytes(make([]byte, 16<<10)); ; {
				if err := s.SendMsg(m); err != nil {
					return err
				}
			}
		}
		for m := new(wrapperspb.BytesValue); ; {
			if err := s.RecvMsg(m); err != nil {
				if errors.Is(err, io.EOF) {
					return nil
				}
				return err
			}
			if err := s.SendMsg(m); err != nil {
				return err
			}
		}
	}
	srv := grpc.NewServer(append(options, grpc.UnknownServiceHandler(handler))...)
	var serving sync.WaitGroup
	serving.Go(func() { _ = srv.Serve(l) })
	t.Cleanup(func() { srv.Stop(); serving.Wait() })
	return l.Addr().String()
}

// grpcTo is a client whose windows are fixed, so that it is known what it takes unread.
func grpcTo(t *testing.T, addr string) *grpc.ClientConn {
	t.Helper()
	cc, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry(),
		grpc.WithInitialWindowSize(64<<10), grpc.WithInitialConnWindowSize(1<<30))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cc.Close() })
	return cc
}

// stall begins streams of a method that does not end, and sends on each, if upload says
// so, until nothing is taken any more. It ends them at the end of the test.
func stall(t *testing.T, cc *grpc.ClientConn, method string, streams int, upload bool) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	t.Cleanup(func() { cancel(); running.Wait() })
	for range streams {
		s, err := cc.NewStream(ctx, bidi, method)
		if err != nil {
			t.Fatal(err)
		}
		running.Go(func() {
			for m := wrapperspb.Bytes(make([]byte, 16<<10)); s.SendMsg(m) == nil && upload; {
			}
			<-ctx.Done()
		})
	}
}

// echoed makes a call that is answered, or fails the test.
func echoed(t *testing.T, cc *grpc.ClientConn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	out := new(wrapperspb.BytesValue)
	if err := cc.Invoke(ctx, "/t.T/Echo", wrapperspb.Bytes([]byte("hello")), out); err != nil || string(out.Value) != "hello" {
		t.Errorf("a call beside stalled ones: got %q, %v; want %q", out.Value, err, "hello")
	}
}

// TestH2StalledStreams: streams that nobody reads, of a client or of a server, do not
// hold up the other streams, of the same client's connection or of another one.
func TestH2StalledStreams(t *testing.T) {
	for name, tc := range map[string]struct {
		method  string
		streams int
		upload  bool
	}{
		"downloads": {method: "/t.T/Flood", streams: 64},
		"uploads":   {method: "/t.T/Deaf", streams: 16, upload: true},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			to := e.to(stallBackend(t))
			cc := grpcTo(t, to)
			echoed(t, cc)
			stall(t, cc, tc.method, tc.streams, tc.upload)
			// The rest of a window is not given back before half of it is used.
			want := int64(tc.streams * http2.DefaultStreamWindow / 2)
			proxytest.Eventually(t, "the streams stall with their windows full", func() bool {
				_, held := e.proxy.pods.Of(quota.Key{UID: e.local.UID, Direction: mesh.Outbound})
				return held >= want
			})
			echoed(t, cc)
			echoed(t, grpcTo(t, to))
			if got := e.proxy.upstream.Stats().HTTP2; got != 1 {
				t.Errorf("got %d connections to the endpoint, want 1", got)
			}
		})
	}
}
