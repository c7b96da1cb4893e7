package echo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	pb "sigs.k8s.io/gateway-api/conformance/echo-basic/grpcechoserver"
)

// timeout bounds a request.
const timeout = 10 * time.Second

// Call says what the client should do.
type Call struct {
	URL    string   // scheme http or grpc; with grpc the path may name a method
	Method string   // HTTP's
	Header []string // "name:value"; Host is the request's host
	Count  int      // number of requests, one after the other on one connection
}

// Run makes the requests and prints the responses, whatever their status. A request
// without a response is an error.
func (c Call) Run(ctx context.Context, w io.Writer) error {
	u, err := url.Parse(c.URL)
	if err != nil {
		return err
	}
	header, err := c.header()
	if err != nil {
		return err
	}
	var ask func(context.Context) (Response, error)
	switch u.Scheme {
	case "http":
		transport := &http.Transport{}
		defer transport.CloseIdleConnections()
		ask = func(ctx context.Context) (Response, error) { return c.http(ctx, transport, header) }
	case "grpc":
		conn, err := grpc.NewClient("passthrough:///"+u.Host, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return err
		}
		defer conn.Close()
		ask = func(ctx context.Context) (Response, error) { return c.grpc(ctx, conn, u.Path, header) }
	default:
		return fmt.Errorf("%s: scheme %q: http or grpc", c.URL, u.Scheme)
	}
	for n := range max(c.Count, 1) {
		once, cancel := context.WithTimeout(ctx, timeout)
		response, err := ask(once)
		cancel()
		if err != nil {
			return fmt.Errorf("request %d: %w", n, err)
		}
		if _, err := io.WriteString(w, response.Lines(n)); err != nil {
			return err
		}
	}
	return nil
}

func (c Call) header() (http.Header, error) {
	out := http.Header{}
	for _, h := range c.Header {
		name, value, found := strings.Cut(h, ":")
		if !found {
			return nil, fmt.Errorf("header %q: name:value", h)
		}
		out.Add(name, strings.TrimSpace(value))
	}
	return out, nil
}

// http makes one request and does not follow a redirect.
func (c Call) http(ctx context.Context, via http.RoundTripper, header http.Header) (Response, error) {
	req, err := http.NewRequestWithContext(ctx, c.Method, c.URL, nil)
	if err != nil {
		return Response{}, err
	}
	req.Header = header.Clone()
	if host := header.Get("Host"); host != "" {
		req.Host = host
		req.Header.Del("Host")
	}
	resp, err := via.RoundTrip(req)
	if err != nil {
		return Response{}, err
	}
	body, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return Response{}, fmt.Errorf("body: %w", err)
	}
	return Response{URL: c.URL, Code: resp.StatusCode, Header: resp.Header, Body: string(body)}, nil
}

// grpc makes one call. The suite expects 200 for OK, and the gRPC code for all
// other results.
func (c Call) grpc(ctx context.Context, conn *grpc.ClientConn, method string, header http.Header) (Response, error) {
	if strings.Trim(method, "/") == "" {
		method = pb.GrpcEcho_Echo_FullMethodName
	}
	for name, values := range header {
		for _, v := range values {
			ctx = metadata.AppendToOutgoingContext(ctx, strings.ToLower(name), v)
		}
	}
	var answer pb.EchoResponse
	var head, trailer metadata.MD
	err := conn.Invoke(ctx, method, &pb.EchoRequest{}, &answer, grpc.Header(&head), grpc.Trailer(&trailer))
	out := Response{URL: c.URL, Code: http.StatusOK, Header: http.Header{}, Body: fromGRPC(answer.GetAssertions()).Lines()}
	for name, values := range metadata.Join(head, trailer) {
		for _, v := range values {
			out.Header.Add(name, v)
		}
	}
	if err != nil {
		out.Code, out.Body = int(status.Code(err)), "Message="+status.Convert(err).Message()
	}
	return out, nil
}
