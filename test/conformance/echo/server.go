package echo

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	pb "sigs.k8s.io/gateway-api/conformance/echo-basic/grpcechoserver"
)

// HTTP answers every request with the request itself. The query may have options:
// delay=1s delays the response, and codes=500:2,200:1 gives two of three responses
// the status 500. All requests with the same codes share one sequence.
func HTTP(hostname string) http.Handler {
	var turns turns
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		code, err := turns.code(query.Get("codes"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if delay, err := time.ParseDuration(query.Get("delay")); err == nil {
			select {
			case <-time.After(delay):
			case <-r.Context().Done():
				return
			}
		}
		answer := Request{
			Hostname: hostname, Method: r.Method, URL: r.URL.RequestURI(), Host: r.Host, Proto: r.Proto, Header: r.Header,
		}
		answer.IP, _, _ = net.SplitHostPort(r.RemoteAddr)
		if local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
			_, answer.Port, _ = net.SplitHostPort(local.String())
		}
		w.Header().Set("Content-Type", "text/plain")
		w.WriteHeader(code)
		_, _ = io.WriteString(w, answer.Lines()) // an error means that the client has left
	})
}

// NewHTTPServer returns a server of the handler for HTTP/1 and HTTP/2, with and
// without TLS.
func NewHTTPServer(handler http.Handler) *http.Server {
	var p http.Protocols
	p.SetHTTP1(true)
	p.SetHTTP2(true)
	p.SetUnencryptedHTTP2(true)
	return &http.Server{Handler: handler, Protocols: &p, ReadHeaderTimeout: time.Minute}
}

// NewGRPCServer returns a server that answers each call with the call itself.
func NewGRPCServer(hostname string) *grpc.Server {
	s := grpc.NewServer()
	pb.RegisterGrpcEchoServer(s, &grpcEcho{hostname: hostname})
	return s
}

type grpcEcho struct {
	pb.UnimplementedGrpcEchoServer
	hostname string
}

func (s *grpcEcho) Echo(ctx context.Context, _ *pb.EchoRequest) (*pb.EchoResponse, error) {
	method, _ := grpc.Method(ctx)
	a := &pb.Assertions{FullyQualifiedMethod: method, Context: &pb.Context{Pod: s.hostname}}
	md, _ := metadata.FromIncomingContext(ctx)
	for name, values := range md {
		for _, v := range values {
			if name == ":authority" {
				a.Authority = v
			} else {
				a.Headers = append(a.Headers, &pb.Header{Key: name, Value: v})
			}
		}
	}
	return &pb.EchoResponse{Assertions: a}, nil
}

func (s *grpcEcho) EchoTwo(ctx context.Context, r *pb.EchoRequest) (*pb.EchoResponse, error) {
	return s.Echo(ctx, r)
}

// ServeTCP echoes the bytes of each connection.
func ServeTCP(l net.Listener) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		go func() {
			defer c.Close()
			_, _ = io.Copy(c, c) // until the client has left, in whatever way
		}()
	}
}

// parseCodes parses "500:2,200:1" to 500, 500, 200.
func parseCodes(text string) ([]int, error) {
	if text == "" {
		return []int{http.StatusOK}, nil
	}
	var out []int
	for part := range strings.SplitSeq(text, ",") {
		head, tail, found := strings.Cut(part, ":")
		code, err := strconv.Atoi(head)
		if err != nil || code < 200 || code > 599 {
			return nil, fmt.Errorf("codes: %q is no status of an answer", head)
		}
		times := 1
		if found {
			if times, err = strconv.Atoi(tail); err != nil || times < 1 || times > 1000 {
				return nil, fmt.Errorf("codes: %q times", tail)
			}
		}
		for range times {
			out = append(out, code)
		}
	}
	return out, nil
}
