// Package demotest runs the whole demo inside a test, over loopback.
package demotest

import (
	"context"
	"net"
	"net/http"
	"testing"

	"google.golang.org/grpc"

	"github.com/underlane/underlane/test/demo/banner"
	"github.com/underlane/underlane/test/demo/emoji"
	pb "github.com/underlane/underlane/test/demo/proto"
	"github.com/underlane/underlane/test/demo/serve"
	"github.com/underlane/underlane/test/demo/voting"
	"github.com/underlane/underlane/test/demo/web"
)

// App is a running demo.
type App struct {
	URL    string // of the front end, without a final slash
	Banner string // address
	Voting *grpc.ClientConn
}

// Start runs all services until the test ends.
func Start(t testing.TB) App {
	t.Helper()
	emojiServer := grpc.NewServer()
	pb.RegisterEmojiServiceServer(emojiServer, emoji.Server{})
	votingServer := grpc.NewServer()
	voting.NewServer().Register(votingServer)

	emojiAddr := Run(t, func(ctx context.Context, ln net.Listener) error { return serve.GRPC(ctx, ln, emojiServer) })
	votingAddr := Run(t, func(ctx context.Context, ln net.Listener) error { return serve.GRPC(ctx, ln, votingServer) })
	bannerAddr := Run(t, banner.Serve)
	votingConn := dial(t, votingAddr)
	handler := web.New(dial(t, emojiAddr), votingConn, bannerAddr).Handler()
	webAddr := Run(t, func(ctx context.Context, ln net.Listener) error { return serve.HTTP(ctx, ln, handler) })
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	return App{URL: "http://" + webAddr, Banner: bannerAddr, Voting: votingConn}
}

// Run runs a server on a loopback port until the test ends. An error of the server
// fails the test.
func Run(t testing.TB, server func(context.Context, net.Listener) error) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server(ctx, ln) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return ln.Addr().String()
}

func dial(t testing.TB, addr string) *grpc.ClientConn {
	t.Helper()
	conn, err := serve.Dial(addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}
