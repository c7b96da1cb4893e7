package otlp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
)

// signal is one of the services of OTLP. The request of each has one field, which is that of
// the message with all data of the signal: TracesData is sent as ExportTraceServiceRequest.
type signal struct {
	name, method, path string
}

var (
	traces = signal{"traces", "/opentelemetry.proto.collector.trace.v1.TraceService/Export", "/v1/traces"}
	logs   = signal{"logs", "/opentelemetry.proto.collector.logs.v1.LogsService/Export", "/v1/logs"}
)

// exportTimeout bounds one attempt to send a batch.
const exportTimeout = 10 * time.Second

// maxAnswer is the largest response that is read, in bytes.
const maxAnswer = 64 << 10

// sendError is a batch that was not taken.
type sendError struct {
	err   error
	retry bool          // the batch may be sent again
	after time.Duration // not before; 0: as the sender likes
}

func (e *sendError) Error() string { return e.err.Error() }
func (e *sendError) Unwrap() error { return e.err }

// sender sends one batch. It returns the number of items that the receiver has rejected. The
// error is a *sendError.
type sender interface {
	send(ctx context.Context, s signal, batch proto.Message) (rejected int64, err error)
	close()
}

func newSender(e Endpoint, ca string) (sender, error) {
	if e.GRPC {
		creds := insecure.NewCredentials()
		if e.TLS {
			config, err := e.tlsConfig(ca)
			if err != nil {
				return nil, err
			}
			creds = credentials.NewTLS(config)
		}
		conn, err := grpc.NewClient(e.Host, grpc.WithTransportCredentials(creds), grpc.WithDisableServiceConfig(),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer)))
		if err != nil {
			return nil, fmt.Errorf("OTLP receiver %s: %w", e.Host, err)
		}
		return &grpcSender{conn}, nil
	}
	transport := &http.Transport{MaxIdleConns: 2, IdleConnTimeout: time.Minute, ForceAttemptHTTP2: true}
	scheme := "http"
	if e.TLS {
		config, err := e.tlsConfig(ca)
		if err != nil {
			return nil, err
		}
		transport.TLSClientConfig, scheme = config, "https"
	}
	return &httpSender{
		base: scheme + "://" + e.Host + e.Path,
		client: http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

type grpcSender struct{ conn *grpc.ClientConn }

func (g *grpcSender) close() { _ = g.conn.Close() }

func (g *grpcSender) send(ctx context.Context, s signal, batch proto.Message) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, exportTimeout)
	defer cancel()
	var answer emptypb.Empty // its unknown fields are those of the response
	if err := g.conn.Invoke(ctx, s.method, batch, &answer); err != nil {
		return 0, grpcError(err)
	}
	return rejected(answer.ProtoReflect().GetUnknown()), nil
}

// grpcError says which failures may be tried again: those that the OTLP specification lists
// under "Failures".
func grpcError(err error) *sendError {
	out := &sendError{err: err}
	st := status.Convert(err)
	var wait time.Duration
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.RetryInfo); ok {
			wait = info.GetRetryDelay().AsDuration()
		}
	}
	switch st.Code() {
	case codes.Canceled, codes.DeadlineExceeded, codes.Aborted, codes.OutOfRange, codes.Unavailable, codes.DataLoss:
		out.retry, out.after = true, wait
	case codes.ResourceExhausted:
		out.retry, out.after = wait > 0, wait
	}
	return out
}

type httpSender struct {
	base   string
	client http.Client
}

func (h *httpSender) close() { h.client.CloseIdleConnections() }

func (h *httpSender) send(ctx context.Context, s signal, batch proto.Message) (int64, error) {
	body, err := proto.Marshal(batch)
	if err != nil {
		return 0, &sendError{err: fmt.Errorf("encode %s: %w", s.name, err)}
	}
	ctx, cancel := context.WithTimeout(ctx, exportTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, h.base+s.path, bytes.NewReader(body))
	if err != nil {
		return 0, &sendError{err: err}
	}
	r.Header.Set("Content-Type", "application/x-protobuf")
	resp, err := h.client.Do(r)
	if err != nil {
		return 0, &sendError{err: err, retry: true}
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	switch {
	case resp.StatusCode == http.StatusOK && err == nil:
		return rejected(answer), nil
	case resp.StatusCode == http.StatusOK:
		return 0, &sendError{err: err, retry: true}
	}
	out := &sendError{err: fmt.Errorf("%s: %s", h.base+s.path, resp.Status)}
	switch resp.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
		out.retry, out.after = true, time.Duration(max(0, seconds))*time.Second
	}
	return 0, out
}

// rejected returns partial_success.rejected_spans (or …_log_records) of a response: both are
// field 1 of field 1.
func rejected(answer []byte) (n int64) {
	inner, ok := field(answer, protowire.BytesType)
	if !ok {
		return 0
	}
	partial, size := protowire.ConsumeBytes(inner)
	if size < 0 {
		return 0
	}
	value, ok := field(partial, protowire.VarintType)
	if !ok {
		return 0
	}
	v, size := protowire.ConsumeVarint(value)
	if size < 0 {
		return 0
	}
	return max(0, int64(v))
}

// field returns the bytes from the value of field 1 on, if it has that type.
func field(b []byte, want protowire.Type) ([]byte, bool) {
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil, false
		}
		if number == 1 && kind == want {
			return b[n:], true
		}
		skip := protowire.ConsumeFieldValue(number, kind, b[n:])
		if skip < 0 {
			return nil, false
		}
		b = b[n+skip:]
	}
	return nil, false
}

// asSendError returns err as a *sendError.
func asSendError(err error) *sendError {
	var out *sendError
	if errors.As(err, &out) {
		return out
	}
	return &sendError{err: err}
}
