package l7proxy

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/l7proxy/upstream"
)

// ackedConn counts the system calls by which reads are acknowledged at once.
type ackedConn struct {
	memoryConn
	acks *atomic.Int64
}

func (c ackedConn) QuickAck() { c.acks.Add(1) }

// TestAcknowledgements: a message that comes whole costs no system call to acknowledge it.
// One that comes in two pieces does, of requests and of responses.
func TestAcknowledgements(t *testing.T) {
	const request1, response1 = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	var clients, servers atomic.Int64
	proxy, target := newMemoryProxy(t, Options{Tap: &h2recorder{}, Log: slog.New(slog.DiscardHandler)})
	proxy.upstream.Connect = func(_ context.Context, ep *upstream.Endpoint, _ netip.AddrPort, _ string) (conn.Conn, upstream.Result, error) {
		proxySide, server := memoryPipe(t)
		target.servers <- server
		return ackedConn{memoryConn{proxySide}, &servers}, ep.Expected(), nil
	}
	ctx, stop := context.WithCancel(t.Context())
	client, proxySide := memoryPipe(t)
	var running sync.WaitGroup
	running.Go(func() { proxy.Run(ctx) })
	running.Go(func() {
		proxy.h1.Serve(sessionOf(proxy, ackedConn{memoryConn{proxySide}, &clients}, target), nil)
	})
	defer running.Wait()
	defer stop()
	defer client.Close()

	var server net.Conn
	answers := bufio.NewReader(client)
	for _, tc := range []struct {
		name              string
		request, response []string
		client, server    bool // whether something is acknowledged
	}{
		{"whole", []string{request1}, []string{response1}, false, false},
		{"whole again", []string{request1}, []string{response1}, false, false},
		{"the request in two", []string{request1[:len(request1)-2], "hi"}, []string{response1}, true, false},
		{"the response in two", []string{request1}, []string{response1[:len(response1)-2], "ok"}, false, true},
		{"its head in two", []string{request1}, []string{response1[:20], response1[20:]}, false, true},
	} {
		clients.Store(0)
		servers.Store(0)
		send := func(to net.Conn, pieces []string, acks *atomic.Int64) {
			for i, piece := range pieces {
				if i > 0 { // the proxy has read what came before
					proxytest.Eventually(t, tc.name+": the first piece is acknowledged", func() bool { return acks.Load() > 0 })
				}
				if _, err := io.WriteString(to, piece); err != nil {
					t.Fatal(err)
				}
			}
		}
		send(client, tc.request, &clients)
		if server == nil {
			server = <-target.servers
			defer server.Close()
		}
		asked := make([]byte, len(request1))
		if _, err := io.ReadFull(server, asked); err != nil || string(asked) != request1 {
			t.Fatalf("%s: the server got %q, %v", tc.name, asked, err)
		}
		send(server, tc.response, &servers)
		resp, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		if body, err := io.ReadAll(resp.Body); string(body) != "ok" || err != nil {
			t.Errorf("%s: body %q, %v", tc.name, body, err)
		}
		resp.Body.Close()
		if got := [2]bool{clients.Load() > 0, servers.Load() > 0}; got != [2]bool{tc.client, tc.server} {
			t.Errorf("%s: acknowledged to the client and the server %v (%d, %d), want %v, %v", tc.name, got, clients.Load(), servers.Load(), tc.client, tc.server)
		}
	}
}
