package e2e

import (
	"bytes"
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// grpcServer answers as the calls' requests ask.
type grpcServer struct {
	grpc_testing.UnimplementedTestServiceServer
	name string
}

// UnaryCall fails if it is asked to; else it says who called, in a trailer.
func (s *grpcServer) UnaryCall(ctx context.Context, r *grpc_testing.SimpleRequest) (*grpc_testing.SimpleResponse, error) {
	if st := r.GetResponseStatus(); st != nil {
		return nil, status.Error(codes.Code(st.Code), st.Message)
	}
	p, _ := peer.FromContext(ctx)
	_ = grpc.SetHeader(ctx, metadata.Pairs("x-server", s.name))
	_ = grpc.SetTrailer(ctx, metadata.Pairs("x-peer", p.Addr.String()))
	return &grpc_testing.SimpleResponse{Payload: r.GetPayload(), Username: s.name}, nil
}

func (s *grpcServer) StreamingOutputCall(r *grpc_testing.StreamingOutputCallRequest, stream grpc_testing.TestService_StreamingOutputCallServer) error {
	for _, p := range r.ResponseParameters {
		if err := stream.Send(&grpc_testing.StreamingOutputCallResponse{Payload: payload(int(p.Size))}); err != nil {
			return err
		}
	}
	return nil
}

func (s *grpcServer) StreamingInputCall(stream grpc_testing.TestService_StreamingInputCallServer) error {
	n := 0
	for {
		r, err := stream.Recv()
		if err == io.EOF {
			return stream.SendAndClose(&grpc_testing.StreamingInputCallResponse{AggregatedPayloadSize: int32(n)})
		}
		if err != nil {
			return err
		}
		n += len(r.GetPayload().GetBody())
	}
}

func (s *grpcServer) FullDuplexCall(stream grpc_testing.TestService_FullDuplexCallServer) error {
	for {
		r, err := stream.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.Send(&grpc_testing.StreamingOutputCallResponse{Payload: r.Payload}); err != nil {
			return err
		}
	}
}

func payload(n int) *grpc_testing.Payload {
	b := make([]byte, n)
	_, _ = (&pattern{}).Read(b)
	return &grpc_testing.Payload{Body: b}
}

// serveGRPC serves at a port of a pod.
func serveGRPC(t *testing.T, l *l7Lab, pod string, port int) {
	t.Helper()
	s := grpc.NewServer(grpc.MaxRecvMsgSize(64 << 20))
	grpc_testing.RegisterTestServiceServer(s, &grpcServer{name: pod})
	at := listenIn(t, l.Lab, pod, port)
	go func() { _ = s.Serve(at) }()
	t.Cleanup(s.Stop)
}

func dialGRPC(t *testing.T, l *l7Lab, addr string) grpc_testing.TestServiceClient {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (c net.Conn, err error) {
			return l.from.DialContext(ctx, "tcp", addr)
		}), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return grpc_testing.NewTestServiceClient(conn)
}

func TestGRPC(t *testing.T) {
	l := upL7(t)
	serveGRPC(t, l, "near", 9001)
	serveGRPC(t, l, "far", 9001)
	tap := startTap(t, l.Lab, node1)
	for _, w := range l.ways {
		t.Run(w.name, func(t *testing.T) {
			tap.forget()
			ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
			defer cancel()
			c := dialGRPC(t, l, w.addr(9001))
			long, err := c.FullDuplexCall(ctx) // lives through all that follows
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()

			t.Run("unary", func(t *testing.T) {
				for _, size := range []int{0, 1, 70_000, 8 << 20} { // the last over any window
					var trailer metadata.MD
					r, err := c.UnaryCall(ctx, &grpc_testing.SimpleRequest{Payload: payload(size)}, grpc.Trailer(&trailer))
					if err != nil || !bytes.Equal(r.GetPayload().GetBody(), payload(size).Body) {
						t.Fatalf("%d bytes: %d back, %v", size, len(r.GetPayload().GetBody()), err)
					}
					if p := trailer.Get("x-peer"); len(p) != 1 || !strings.HasPrefix(p[0], bracket(w.clientIP.String())+":") {
						t.Errorf("the server sees %v", p)
					}
				}
			})
			t.Run("failure", func(t *testing.T) {
				_, err := c.UnaryCall(ctx, &grpc_testing.SimpleRequest{ResponseStatus: &grpc_testing.EchoStatus{Code: 9, Message: "não hoje"}})
				if s := status.Convert(err); s.Code() != codes.FailedPrecondition || s.Message() != "não hoje" {
					t.Errorf("%v", err)
				}
				e := tap.wait("the failing call", func(e event) bool {
					return e.ResponseEndEvent != nil && e.ResponseEndEvent.GRPCStatusCode == 9 && e.ProxyDirection == "OUTBOUND"
				})
				if e.TLS != w.tls || !e.ResponseEndEvent.GRPC || e.ResponseEndEvent.Path != "/grpc.testing.TestService/UnaryCall" || e.Protocol != "grpc" {
					t.Errorf("tap: %s", e)
				}
			})
			t.Run("server streams", func(t *testing.T) {
				ask := &grpc_testing.StreamingOutputCallRequest{}
				for i := range 50 {
					ask.ResponseParameters = append(ask.ResponseParameters, &grpc_testing.ResponseParameters{Size: int32(i * 4000)})
				}
				stream, err := c.StreamingOutputCall(ctx, ask)
				if err != nil {
					t.Fatal(err)
				}
				for i := range 50 {
					r, err := stream.Recv()
					if err != nil || len(r.GetPayload().GetBody()) != i*4000 {
						t.Fatalf("message %d: %d bytes, %v", i, len(r.GetPayload().GetBody()), err)
					}
				}
				if _, err := stream.Recv(); err != io.EOF {
					t.Error(err)
				}
			})
			t.Run("client streams", func(t *testing.T) {
				stream, err := c.StreamingInputCall(ctx)
				if err != nil {
					t.Fatal(err)
				}
				for range 100 {
					if err := stream.Send(&grpc_testing.StreamingInputCallRequest{Payload: payload(20_000)}); err != nil {
						t.Fatal(err)
					}
				}
				if r, err := stream.CloseAndRecv(); err != nil || r.AggregatedPayloadSize != 2_000_000 {
					t.Errorf("%v, %v", r, err)
				}
			})
			t.Run("cancelled", func(t *testing.T) {
				ctx, cancel := context.WithCancel(ctx)
				stream, err := c.FullDuplexCall(ctx)
				if err != nil {
					t.Fatal(err)
				}
				exchange(t, stream, 10)
				cancel()
				if _, err := stream.Recv(); status.Code(err) != codes.Canceled {
					t.Error(err)
				}
			})
			for range 20 {
				exchange(t, long, 1000)
			}
			if err := long.CloseSend(); err != nil {
				t.Error(err)
			}
			if _, err := long.Recv(); err != io.EOF {
				t.Error(err)
			}
			e := tap.wait("the end of the long stream", func(e event) bool {
				return e.ResponseEndEvent != nil && strings.HasSuffix(e.ResponseEndEvent.Path, "FullDuplexCall") && !e.ResponseEndEvent.Reset && e.ProxyDirection == "OUTBOUND"
			})
			if e.ResponseEndEvent.GRPCStatusCode != 0 || !e.ResponseEndEvent.Success || e.ResponseEndEvent.RequestBytes < 20_000 {
				t.Errorf("tap: %s (it lived for %s)", e, time.Since(began))
			}
		})
	}
}

func exchange(t *testing.T, stream grpc_testing.TestService_FullDuplexCallClient, size int) {
	t.Helper()
	if err := stream.Send(&grpc_testing.StreamingOutputCallRequest{Payload: payload(size)}); err != nil {
		t.Fatal(err)
	}
	if r, err := stream.Recv(); err != nil || len(r.GetPayload().GetBody()) != size {
		t.Fatalf("%v, %v", r, err)
	}
}
