package l7proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/underlane/underlane/pkg/mesh"
)

// grpcBackend is a grpc-go server of three methods without generated code:
// /t.T/Unary echoes, or fails with the text of its argument; /t.T/Chat echoes
// each message; /t.T/Count answers with as many messages as the argument says.
func grpcBackend(t *testing.T) (addr string, srv *grpc.Server) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv = grpc.NewServer(grpc.MaxRecvMsgSize(64 << 20))
	srv.RegisterService(&grpc.ServiceDesc{
		ServiceName: "t.T",
		HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{
			{StreamName: "Unary", Handler: func(_ any, s grpc.ServerStream) error {
				m := new(wrapperspb.StringValue)
				if err := s.RecvMsg(m); err != nil {
					return err
				}
				if md, _ := metadata.FromIncomingContext(s.Context()); len(md.Get("x-trail")) > 0 {
					s.SetTrailer(metadata.Pairs("x-trail", md.Get("x-trail")[0]))
				}
				if msg, ok := strings.CutPrefix(m.Value, "fail "); ok {
					return status.Error(codes.FailedPrecondition, msg)
				}
				return s.SendMsg(m)
			}},
			{StreamName: "Chat", ServerStreams: true, ClientStreams: true, Handler: func(_ any, s grpc.ServerStream) error {
				for {
					m := new(wrapperspb.BytesValue)
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
			}},
			{StreamName: "Count", ServerStreams: true, Handler: func(_ any, s grpc.ServerStream) error {
				m := new(wrapperspb.Int64Value)
				if err := s.RecvMsg(m); err != nil {
					return err
				}
				for i := range m.Value {
					if err := s.SendMsg(wrapperspb.Int64(i)); err != nil {
						return err
					}
				}
				return nil
			}},
		},
	}, nil)
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	t.Cleanup(func() { srv.Stop(); <-done })
	return l.Addr().String(), srv
}

func (e *h2env) grpcClient() *grpc.ClientConn {
	cc, err := grpc.NewClient(e.addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry())
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { cc.Close() })
	return cc
}

var bidi = &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}

func unary(cc *grpc.ClientConn, arg string, opts ...grpc.CallOption) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "x-trail", "t")
	out := new(wrapperspb.StringValue)
	err := cc.Invoke(ctx, "/t.T/Unary", wrapperspb.String(arg), out, opts...)
	return out.Value, err
}

func TestH2GRPCUnary(t *testing.T) {
	backend, _ := grpcBackend(t)
	e := newH2Env(t, backend)
	cc := e.grpcClient()
	var trailer metadata.MD
	if got, err := unary(cc, "hello", grpc.Trailer(&trailer)); got != "hello" || err != nil || len(trailer.Get("x-trail")) != 1 {
		t.Fatalf("got %q %v %v, want \"hello\" and the trailer x-trail", got, err, trailer)
	}
	_, err := unary(cc, "fail not ready")
	if s := status.Convert(err); s.Code() != codes.FailedPrecondition || s.Message() != "not ready" {
		t.Errorf("got %v, want FailedPrecondition: not ready", err)
	}
	if ev := e.tap.end(t, 0); !ev.GRPC || ev.Protocol != "grpc" || ev.GRPCStatus != 0 || ev.Path != "/t.T/Unary" {
		t.Errorf("tap: %+v", ev)
	}
	if ev := e.tap.end(t, 1); ev.GRPCStatus != int(codes.FailedPrecondition) || ev.Status != 200 {
		t.Errorf("tap: %+v", ev)
	}
}

func TestH2GRPCStreams(t *testing.T) {
	backend, _ := grpcBackend(t)
	e := newH2Env(t, backend)
	cc := e.grpcClient()
	within(t, 30*time.Second, func() {
		s, err := cc.NewStream(context.Background(), bidi, "/t.T/Count")
		if err != nil {
			t.Error(err)
			return
		}
		_ = s.SendMsg(wrapperspb.Int64(10000))
		_ = s.CloseSend()
		n := int64(0)
		for m := new(wrapperspb.Int64Value); s.RecvMsg(m) == nil; n++ {
			if m.Value != n {
				t.Errorf("message %d is %d", n, m.Value)
			}
		}
		if n != 10000 {
			t.Errorf("%d messages", n)
		}
	})
	// Lockstep: each answer comes before the next question is asked.
	within(t, 30*time.Second, func() {
		s, err := cc.NewStream(context.Background(), bidi, "/t.T/Chat")
		if err != nil {
			t.Error(err)
			return
		}
		for i := range 200 {
			want := fmt.Sprint("message ", i)
			if err := s.SendMsg(wrapperspb.Bytes([]byte(want))); err != nil {
				t.Error(err)
			}
			m := new(wrapperspb.BytesValue)
			if err := s.RecvMsg(m); err != nil || string(m.Value) != want {
				t.Fatalf("got %q %v, want %q", m.Value, err, want)
			}
		}
		_ = s.CloseSend()
		if err := s.RecvMsg(new(wrapperspb.BytesValue)); !errors.Is(err, io.EOF) {
			t.Error(err)
		}
	})
}

// TestH2NoDeadlock: echoes in both directions at once on shared connections,
// with clients that send much before they read, and that read slowly.
func TestH2NoDeadlock(t *testing.T) {
	backend, _ := grpcBackend(t)
	e := newH2Env(t, backend)
	const clients, streams, messages, size = 3, 8, 40, 50 << 10
	var wg sync.WaitGroup
	within(t, 5*time.Minute, func() {
		for range clients {
			cc := e.grpcClient()
			for i := range streams {
				wg.Go(func() {
					s, err := cc.NewStream(context.Background(), bidi, "/t.T/Chat")
					if err != nil {
						t.Error(err)
						return
					}
					go func() {
						for range messages {
							if s.SendMsg(wrapperspb.Bytes(make([]byte, size))) != nil {
								return
							}
						}
						_ = s.CloseSend()
					}()
					n := 0
					for m := new(wrapperspb.BytesValue); s.RecvMsg(m) == nil; n++ {
						if i%2 == 0 {
							time.Sleep(2 * time.Millisecond)
						}
					}
					if n != messages {
						t.Errorf("stream got %d of %d messages", n, messages)
					}
				})
			}
		}
		wg.Wait()
	})
}

func TestH2GRPCFailures(t *testing.T) {
	t.Run("no endpoint", func(t *testing.T) {
		e := newH2Env(t)
		_, err := unary(e.grpcClient(), "x")
		if s := status.Convert(err); s.Code() != codes.Unavailable || s.Message() != mesh.ReasonNoEndpoints.Text() {
			t.Error(err)
		}
		if ev := e.tap.end(t, 0); ev.Reason != mesh.ReasonNoEndpoints || ev.GRPCStatus != 14 || ev.Success() {
			t.Errorf("tap: %+v", ev)
		}
	})
	t.Run("server dies in a stream", func(t *testing.T) {
		backend, srv := grpcBackend(t)
		e := newH2Env(t, backend)
		s, err := e.grpcClient().NewStream(context.Background(), bidi, "/t.T/Chat")
		if err != nil {
			t.Fatal(err)
		}
		m := wrapperspb.Bytes([]byte("x"))
		if err := errors.Join(s.SendMsg(m), s.RecvMsg(m)); err != nil {
			t.Fatal(err)
		}
		srv.Stop()
		err = s.RecvMsg(m)
		if status.Code(err) != codes.Unavailable {
			t.Errorf("got %v, want Unavailable", err)
		}
		if ev := e.tap.end(t, 0); ev.Reason != mesh.ReasonUpstreamReset || ev.GRPCStatus != 14 {
			t.Errorf("tap: %+v", ev)
		}
	})
	t.Run("deadline", func(t *testing.T) {
		backend, _ := grpcBackend(t)
		e := newH2Env(t, backend)
		cc := e.grpcClient()
		if _, err := unary(cc, "x"); err != nil { // connected, before the time runs
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		s, err := cc.NewStream(ctx, bidi, "/t.T/Chat")
		if err != nil {
			t.Fatal(err)
		}
		if err := s.RecvMsg(new(wrapperspb.BytesValue)); status.Code(err) != codes.DeadlineExceeded {
			t.Error(err)
		}
	})
}

// TestH2GracefulServer: a server that goes away gracefully, and comes back,
// loses no call.
func TestH2GracefulServer(t *testing.T) {
	backend, srv := grpcBackend(t)
	other, _ := grpcBackend(t)
	e := newH2Env(t, backend, other)
	cc := e.grpcClient()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if got, err := unary(cc, "x"); got != "x" {
					t.Error(err)
				}
			}
		})
	}
	time.Sleep(100 * time.Millisecond)
	srv.GracefulStop()
	time.Sleep(100 * time.Millisecond)
	close(stop)
	wg.Wait()
}
