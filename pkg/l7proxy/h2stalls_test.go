package l7proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"
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
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
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
			want := int64(tc.streams * http2.FirstStreamWindow / 2)
			proxytest.Eventually(t, "the streams stall with their windows full", func() bool {
				_, held := e.proxy.pods.Of(quota.Key{UID: e.local.UID, Direction: mesh.Outbound})
				return held >= want
			})
			echoed(t, cc)
			echoed(t, grpcTo(t, to))
			// The window of the connection is used up for moments while the streams begin, on
			// a busy machine for longer than a request waits: then there are some more.
			if got := e.proxy.upstream.Stats().HTTP2; got > 8 {
				t.Errorf("got %d connections to the endpoint, want one for each request never, and 8 at most", got)
			}
		})
	}
}

// countedListener counts the bytes of DATA frames that arrive on its connections.
type countedListener struct {
	net.Listener
	data atomic.Int64
	deaf atomic.Int64 // requests that are not read
}

// countedConn follows the frames of a client.
type countedConn struct {
	net.Conn
	l    *countedListener
	skip int // bytes before the next frame header
	head []byte
}

func (l *countedListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	return &countedConn{Conn: nc, l: l, skip: len(xhttp2.ClientPreface)}, err
}

func (c *countedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	for p := p[:n]; len(p) > 0; {
		if c.skip > 0 {
			k := min(c.skip, len(p))
			p, c.skip = p[k:], c.skip-k
			continue
		}
		c.head, p = append(c.head, p[0]), p[1:]
		if len(c.head) == 9 {
			c.skip = int(c.head[0])<<16 | int(c.head[1])<<8 | int(c.head[2])
			if xhttp2.FrameType(c.head[3]) == xhttp2.FrameData {
				c.l.data.Add(int64(c.skip))
			}
			c.head = c.head[:0]
		}
	}
	return n, err
}

// deafBackend is net/http's server, whose window of a connection is 1 MiB: at /deaf it
// reads nothing, elsewhere it echoes.
func deafBackend(t *testing.T) *countedListener {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &countedListener{Listener: inner}
	srv := &http.Server{Protocols: new(http.Protocols), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/deaf" {
			l.deaf.Add(1)
			<-r.Context().Done()
			return
		}
		body, _ := io.ReadAll(r.Body)
		_, _ = w.Write(body)
	})}
	srv.Protocols.SetUnencryptedHTTP2(true)
	var serving sync.WaitGroup
	serving.Go(func() { _ = srv.Serve(l) })
	t.Cleanup(func() { srv.Close(); serving.Wait() })
	return l
}

// TestH2DeafServer: uploads that a server does not read use up the window of their
// connection. A request without a body uses it all the same; one with a body goes by
// another connection.
func TestH2DeafServer(t *testing.T) {
	const uploads, size = 5, 1 << 20
	l := deafBackend(t)
	e := newH2Env(t, l.Addr().String())
	client := e.client()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	var uploading sync.WaitGroup
	t.Cleanup(func() { cancel(); uploading.Wait() })
	ask := func(method, path string, body io.Reader) (*http.Response, error) {
		req, err := http.NewRequestWithContext(ctx, method, e.url(path), body)
		if err != nil {
			t.Fatal(err)
		}
		return client.Do(req)
	}
	var bodies []*io.PipeWriter
	for range uploads {
		body, w := io.Pipe()
		bodies = append(bodies, w)
		uploading.Go(func() {
			if resp, err := ask("POST", "/deaf", body); err == nil {
				resp.Body.Close()
			}
		})
	}
	proxytest.Eventually(t, "all uploads are on one connection", func() bool { return l.deaf.Load() == uploads })
	for _, w := range bodies {
		uploading.Go(func() { _, _ = w.Write(make([]byte, size)) })
	}
	proxytest.Eventually(t, "the window is used up", func() bool { return l.data.Load() == 1<<20 })
	for _, tc := range []struct {
		method string
		conns  int
	}{{"GET", 1}, {"POST", 2}, {"GET", 2}, {"POST", 2}} {
		body := strings.Repeat(tc.method, 1000)
		var sent io.Reader = strings.NewReader(body)
		if tc.method == "GET" {
			body, sent = "", nil
		}
		resp, err := ask(tc.method, "/", sent)
		if err != nil {
			t.Fatalf("%s: %v", tc.method, err)
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(got) != body || err != nil || resp.StatusCode != http.StatusOK {
			t.Errorf("%s: got status %d, %d bytes, %v; want 200 and %d bytes", tc.method, resp.StatusCode, len(got), err, len(body))
		}
		if got := e.proxy.upstream.Stats().HTTP2; got != tc.conns {
			t.Errorf("%s: got %d connections, want %d", tc.method, got, tc.conns)
		}
	}
}
