package agent

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/agent/nodeapi"
	"github.com/underlane/underlane/pkg/listener"
	"github.com/underlane/underlane/pkg/tap"
	"github.com/underlane/underlane/pkg/telemetry"
)

func bare() *components {
	log := slog.New(slog.DiscardHandler)
	return &components{log: log, conns: &listener.Group{Log: log}}
}

// scarce fails as a process does that is out of descriptors, some times.
type scarce struct {
	net.Listener
	left atomic.Int64
}

func (s *scarce) Accept() (net.Conn, error) {
	if s.left.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", unix.ENOBUFS)}
	}
	return s.Listener.Accept()
}

// Servers beside the traffic outlive a lack of descriptors or memory.
func TestAsidesWaitOutALackOfDescriptors(t *testing.T) {
	for name, tc := range map[string]struct {
		serve func(context.Context, net.Listener) error
		call  func(t *testing.T, addr string) error
	}{
		"metrics": {
			func(ctx context.Context, ln net.Listener) error {
				return telemetry.Serve(ctx, ln, http.NotFoundHandler())
			},
			func(_ *testing.T, addr string) error {
				resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Get("http://" + addr)
				if err == nil {
					err = resp.Body.Close()
				}
				return err
			},
		},
		"node API": {
			func(ctx context.Context, ln net.Listener) error {
				return (&nodeapi.Server{Hub: tap.NewHub(), Source: status{}}).Serve(ctx, ln)
			},
			func(t *testing.T, addr string) error {
				conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
				if err != nil {
					return err
				}
				defer conn.Close()
				_, err = agentv1.NewNodeClient(conn).Status(t.Context(), &agentv1.StatusRequest{}, grpc.WaitForReady(true))
				return err
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			lacking := &scarce{Listener: ln}
			lacking.left.Store(3)
			a := bare()
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan error, 1)
			go func() {
				done <- a.aside(aside{name: name, opened: lacking, open: func(context.Context) (net.Listener, error) {
					return nil, errors.New("it has ended")
				}, serve: tc.serve})(ctx)
			}()
			if err := tc.call(t, ln.Addr().String()); err != nil {
				t.Error(err)
			}
			if n := a.conns.Exhausted(); n != 3 {
				t.Errorf("counted %d", n)
			}
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

type status struct{}

func (status) Status(context.Context) *agentv1.StatusResponse { return &agentv1.StatusResponse{} }

// A server that ends for any cause is started again, as often as it takes.
func TestAsidesAreStartedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := bare()
		first, second := &closing{}, &closing{}
		opens, serves := 0, 0
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		begun := time.Now()
		err := a.aside(aside{name: "x", opened: first, must: true, open: func(context.Context) (net.Listener, error) {
			if opens++; opens < 3 {
				return nil, unix.EADDRINUSE
			}
			return second, nil
		}, serve: func(ctx context.Context, ln net.Listener) error {
			defer ln.Close()
			if serves++; serves == 1 {
				return errors.New("a defect")
			}
			cancel()
			return ctx.Err()
		}})(ctx)
		if err != nil || opens != 3 || serves != 2 || !first.closed || !second.closed || time.Since(begun) != 3*asidePause {
			t.Errorf("%v, opened %d times, served %d, after %s", err, opens, serves, time.Since(begun))
		}
	})
}

// What the operator should know of is told at the start, before there is traffic.
func TestAsideThatMustListen(t *testing.T) {
	open := func(context.Context) (net.Listener, error) { return nil, unix.EADDRINUSE }
	if err := bare().aside(aside{name: "x", must: true, open: open})(t.Context()); !errors.Is(err, unix.EADDRINUSE) {
		t.Error(err)
	}
}

type closing struct {
	net.Listener
	closed bool
}

func (c *closing) Close() error { c.closed = true; return nil }
