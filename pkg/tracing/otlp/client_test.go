package otlp

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/underlane/underlane/pkg/tap"
)

// got is what a receiver has seen of a batch.
type got struct {
	path  string
	batch *tracepb.TracesData
}

// partial is a response with this number of rejected items.
func partial(n uint64) []byte {
	inner := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), n)
	inner = protowire.AppendString(protowire.AppendTag(inner, 2, protowire.BytesType), "too old")
	return protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), inner)
}

func grpcReceiver(t *testing.T, answer func() ([]byte, error)) (Endpoint, chan got) {
	t.Helper()
	seen := make(chan got, 16)
	s := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		method, _ := grpc.MethodFromServerStream(stream)
		var batch tracepb.TracesData
		if err := stream.RecvMsg(&batch); err != nil {
			return err
		}
		seen <- got{method, &batch}
		fields, err := answer()
		if err != nil {
			return err
		}
		var out emptypb.Empty
		out.ProtoReflect().SetUnknown(fields)
		return stream.SendMsg(&out)
	}))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(ln)
	t.Cleanup(s.Stop)
	return Endpoint{GRPC: true, Host: ln.Addr().String()}, seen
}

func httpReceiver(t *testing.T, answer http.HandlerFunc) (Endpoint, chan got) {
	t.Helper()
	seen := make(chan got, 16)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var batch tracepb.TracesData
		if err == nil {
			err = proto.Unmarshal(body, &batch)
		}
		if err != nil || r.Header.Get("Content-Type") != "application/x-protobuf" {
			t.Errorf("%s %s: body %q, type %q: %v", r.Method, r.URL, body, r.Header.Get("Content-Type"), err)
		}
		seen <- got{r.Method + " " + r.URL.String(), &batch}
		answer(w, r)
	}))
	t.Cleanup(s.Close)
	return Endpoint{Host: s.Listener.Addr().String(), Path: "/base"}, seen
}

// outcome is what sending a batch has led to.
type outcome struct {
	Rejected int64
	Failed   bool
	Retry    bool
	After    time.Duration
}

func sendTo(t *testing.T, e Endpoint, batch proto.Message) outcome {
	t.Helper()
	s, err := newSender(e, "")
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	rejected, err := s.send(t.Context(), traces, batch)
	if err == nil {
		return outcome{Rejected: rejected}
	}
	var failure *sendError
	if !errors.As(err, &failure) {
		t.Fatalf("the error is %T (%v), want *sendError", err, err)
	}
	return outcome{rejected, true, failure.retry, failure.after}
}

func TestGRPC(t *testing.T) {
	busy := func(delay time.Duration) error {
		s, err := status.New(codes.ResourceExhausted, "busy").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(delay)})
		if err != nil {
			t.Fatal(err)
		}
		return s.Err()
	}
	for name, tc := range map[string]struct {
		answer []byte
		err    error
		want   outcome
	}{
		"taken":                {nil, nil, outcome{}},
		"partly":               {partial(3), nil, outcome{Rejected: 3}},
		"unavailable":          {nil, status.Error(codes.Unavailable, "x"), outcome{Failed: true, Retry: true}},
		"data loss":            {nil, status.Error(codes.DataLoss, "x"), outcome{Failed: true, Retry: true}},
		"exhausted":            {nil, status.Error(codes.ResourceExhausted, "x"), outcome{Failed: true}},
		"exhausted for 3 s":    {nil, busy(3 * time.Second), outcome{Failed: true, Retry: true, After: 3 * time.Second}},
		"invalid":              {nil, status.Error(codes.InvalidArgument, "x"), outcome{Failed: true}},
		"no such service":      {nil, status.Error(codes.Unimplemented, "x"), outcome{Failed: true}},
		"not allowed":          {nil, status.Error(codes.PermissionDenied, "x"), outcome{Failed: true}},
		"a response of rubble": {[]byte{0x0a, 0x02, 0x08, 0x80}, nil, outcome{}},
	} {
		t.Run(name, func(t *testing.T) {
			e, seen := grpcReceiver(t, func() ([]byte, error) { return tc.answer, tc.err })
			batch := encodeSpans([]tap.Event{*sampled("/")}, "v1")
			if diff := cmp.Diff(tc.want, sendTo(t, e, batch)); diff != "" {
				t.Errorf("sending (-want +got):\n%s", diff)
			}
			g := <-seen
			if g.path != "/opentelemetry.proto.collector.trace.v1.TraceService/Export" {
				t.Errorf("the method is %s", g.path)
			}
			if diff := cmp.Diff(batch, g.batch, protocmp.Transform()); diff != "" {
				t.Errorf("received (-want +got):\n%s", diff)
			}
		})
	}
}

func TestHTTP(t *testing.T) {
	say := func(code int, body []byte, header ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i+1 < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(code)
			_, _ = w.Write(body)
		}
	}
	for name, tc := range map[string]struct {
		answer http.HandlerFunc
		want   outcome
	}{
		"taken":         {say(200, nil), outcome{}},
		"partly":        {say(200, partial(3)), outcome{Rejected: 3}},
		"rubble":        {say(200, []byte(strings.Repeat("\xff", 1<<20))), outcome{}},
		"busy":          {say(429, nil, "Retry-After", "7"), outcome{Failed: true, Retry: true, After: 7 * time.Second}},
		"unavailable":   {say(503, nil, "Retry-After", "-7"), outcome{Failed: true, Retry: true}},
		"bad gateway":   {say(502, nil), outcome{Failed: true, Retry: true}},
		"late":          {say(504, nil), outcome{Failed: true, Retry: true}},
		"broken":        {say(500, nil), outcome{Failed: true}},
		"refused":       {say(400, nil), outcome{Failed: true}},
		"sent away":     {say(302, nil, "Location", "http://other.example/"), outcome{Failed: true}},
		"cut in answer": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, outcome{Failed: true, Retry: true}},
	} {
		t.Run(name, func(t *testing.T) {
			e, seen := httpReceiver(t, tc.answer)
			batch := encodeSpans([]tap.Event{*sampled("/")}, "v1")
			if diff := cmp.Diff(tc.want, sendTo(t, e, batch)); diff != "" {
				t.Errorf("sending (-want +got):\n%s", diff)
			}
			g := <-seen
			if g.path != "POST /base/v1/traces" {
				t.Errorf("the request is %s, want POST /base/v1/traces", g.path)
			}
			if diff := cmp.Diff(batch, g.batch, protocmp.Transform()); diff != "" {
				t.Errorf("received (-want +got):\n%s", diff)
			}
		})
	}
}

// TestNobody: where nothing listens, the batch may be sent again.
func TestNobody(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	for _, grpc := range []bool{false, true} {
		want := outcome{Failed: true, Retry: true}
		if got := sendTo(t, Endpoint{GRPC: grpc, Host: ln.Addr().String()}, &tracepb.TracesData{}); got != want {
			t.Errorf("gRPC %v: %+v, want %+v", grpc, got, want)
		}
	}
}

// TestTLS: the receiver's certificate must be of the authority, and for its name.
func TestTLS(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	s.Config.ErrorLog = nil
	s.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	s.StartTLS()
	defer s.Close()
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	for _, tc := range []struct{ host, ca, want string }{
		{"127.0.0.1", file, ""},
		{"127.0.0.1", "", "unknown authority"},
		{"localhost", file, "certificate is valid for"},
	} {
		sender, err := newSender(Endpoint{TLS: true, Host: net.JoinHostPort(tc.host, port)}, tc.ca)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		_, err = sender.send(ctx, traces, &tracepb.TracesData{})
		cancel()
		sender.close()
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s with authority %q: %v, want %q", tc.host, tc.ca, err, tc.want)
		}
	}
	if _, err := newSender(Endpoint{TLS: true, Host: "x:1"}, os.DevNull); err == nil {
		t.Error("an authority without a certificate is taken")
	}
}

func TestParseEndpoint(t *testing.T) {
	for in, want := range map[string]Endpoint{
		"grpc://collector.observability:4317": {GRPC: true, Host: "collector.observability:4317"},
		"grpc://collector":                    {GRPC: true, Host: "collector:4317"},
		"grpcs://collector/":                  {GRPC: true, TLS: true, Host: "collector:4317"},
		"http://[fd00::1]":                    {Host: "[fd00::1]:4318"},
		"https://x.example:443/otlp/":         {TLS: true, Host: "x.example:443", Path: "/otlp"},
	} {
		if got, err := ParseEndpoint(in); got != want || err != nil {
			t.Errorf("ParseEndpoint(%q) = %+v, %v, want %+v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "collector:4317", "grpc://", "grpc://x/path", "ftp://x", "http://user:pw@x", "http://x?a=b", "http://x:y"} {
		if got, err := ParseEndpoint(in); err == nil {
			t.Errorf("ParseEndpoint(%q) = %+v, want an error", in, got)
		}
	}
}
