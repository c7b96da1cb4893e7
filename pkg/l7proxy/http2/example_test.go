package http2_test

import (
	"errors"
	"fmt"

	"github.com/underlane/underlane/pkg/l7proxy/http2"
	xhttp2 "golang.org/x/net/http2"
)

// move carries what from has to say to the other end, and returns what it means there.
func move(from, to *http2.Conn) []http2.Event {
	events, err := to.Feed(from.TakeOutput(nil))
	if err != nil {
		fmt.Println(err)
	}
	return events
}

// settle exchanges the prefaces.
func settle(client, server *http2.Conn) {
	move(client, server)
	move(server, client)
	move(client, server)
}

func request(method string) []http2.Field {
	return []http2.Field{
		{Name: ":method", Value: method},
		{Name: ":scheme", Value: "http"},
		{Name: ":authority", Value: "web"},
		{Name: ":path", Value: "/vote"},
	}
}

func status(code string) []http2.Field { return []http2.Field{{Name: ":status", Value: code}} }

// A call, seen from both ends of a connection.
func Example() {
	client, server := http2.New(http2.Config{Role: http2.Client}), http2.New(http2.Config{Role: http2.Server})
	settle(client, server)

	id, err := client.OpenStream(request("POST"), false)
	if err != nil {
		fmt.Println(err)
		return
	}
	_, _ = client.WriteData(id, []byte("hello"), true)
	for _, ev := range move(client, server) {
		fmt.Println("server:", ev.Kind, ev.Stream, string(ev.Payload), ev.EndStream)
		server.Consume(ev.Stream, len(ev.Payload)) // the client may send as much again
	}

	_ = server.WriteHeaders(id, status("200"), false)
	_, _ = server.WriteData(id, []byte("thanks"), false)
	_ = server.WriteTrailers(id, []http2.Field{{Name: "grpc-status", Value: "0"}})
	for _, ev := range move(server, client) {
		fmt.Println("client:", ev.Kind, ev.Stream, string(ev.Payload), ev.EndStream)
	}
	fmt.Println("streams:", client.Streams(), server.Streams())
	// Output:
	// server: HEADERS 1  false
	// server: DATA 1 hello true
	// client: HEADERS 1  false
	// client: DATA 1 thanks false
	// client: HEADERS 1  true
	// streams: 0 0
}

// A request waits for one of the few streams that a server allows.
func ExampleConn_RoomOpened() {
	client, server := http2.New(http2.Config{Role: http2.Client}), http2.New(http2.Config{Role: http2.Server, MaxStreams: 1})
	fmt.Println(client.PeerMaxStreams())
	settle(client, server)
	fmt.Println(client.PeerMaxStreams())

	first, _ := client.OpenStream(request("GET"), true)
	_, err := client.OpenStream(request("GET"), true)
	fmt.Println(errors.Is(err, http2.ErrTooManyStreams), client.RoomOpened())

	move(client, server)
	_ = server.WriteHeaders(first, status("204"), true)
	move(server, client)
	fmt.Println(client.RoomOpened())
	_, err = client.OpenStream(request("GET"), true)
	fmt.Println(err)
	// Output:
	// 100 false
	// 1 true
	// true false
	// true
	// <nil>
}

// What a server has not processed may be sent again: elsewhere if it goes away.
func ExampleEvent() {
	client, server := http2.New(http2.Config{Role: http2.Client}), http2.New(http2.Config{Role: http2.Server, MaxStreams: 1})
	for range 2 { // the client does not know yet that one is all
		_, _ = client.OpenStream(request("GET"), true)
	}
	move(client, server)
	for _, ev := range move(server, client) {
		if ev.Kind == http2.EventReset {
			fmt.Println(ev.Stream, ev.Code, ev.Retryable, ev.GoingAway)
		}
	}
	// Output: 3 REFUSED_STREAM true false
}

// A sender that is ahead of its receiver is told what it waits for.
func ExampleConn_Stalled() {
	client, server := http2.New(http2.Config{Role: http2.Client}), http2.New(http2.Config{Role: http2.Server, StreamWindow: 10})
	settle(client, server)
	id, _ := client.OpenStream(request("POST"), false)
	body := []byte("more than a window")
	n, _ := client.WriteData(id, body, true)
	fmt.Println(n, client.Stalled(id))

	events := move(client, server)
	server.Consume(id, len(events[1].Payload))
	for _, ev := range move(server, client) {
		fmt.Println(ev.Kind, ev.Stream)
	}
	m, _ := client.WriteData(id, body[n:], true)
	fmt.Println(m, client.Stalled(id))
	// Output:
	// 10 stream window
	// WINDOW 1
	// 8 none
}

// A connection whose window is spent lets nothing through: a further stream belongs on
// another one.
func ExampleConn_Windows() {
	client, server := http2.New(http2.Config{Role: http2.Client}), http2.New(http2.Config{Role: http2.Server})
	settle(client, server)
	for range 5 { // uploads that the server does not read
		id, _ := client.OpenStream(request("POST"), false)
		for client.Stalled(id) == http2.StallNone {
			_, _ = client.WriteData(id, make([]byte, 32<<10), false)
			move(client, server)
		}
	}
	send, recv := client.Windows()
	fmt.Println(send, recv)
	// Output: 0 1048576
}

// A client that makes the server reset streams is sent away. One that resets them itself,
// because its calls run into a deadline, is not.
func ExampleResetLimit() {
	server := http2.New(http2.Config{Role: http2.Server, Resets: http2.ResetLimit{Burst: 100}})
	client := http2.New(http2.Config{Role: http2.Client})
	settle(client, server)
	for range 1000 {
		id, _ := client.OpenStream(request("GET"), true)
		client.WriteReset(id, http2.Cancel)
		if _, err := server.Feed(client.TakeOutput(nil)); err != nil {
			fmt.Println(err)
		}
	}
	for n := range 1000 {
		id, _ := client.OpenStream(request("GET"), true)
		noWindow := []byte{0, 0, 4, byte(xhttp2.FrameWindowUpdate), 0, 0, 0, byte(id >> 8), byte(id), 0, 0, 0, 0}
		if _, err := server.Feed(append(client.TakeOutput(nil), noWindow...)); err != nil {
			fmt.Println(n, err)
			return
		}
	}
	// Output: 100 http2 connection error ENHANCE_YOUR_CALM: too many streams were opened in vain: malformed, refused, or reset for what was sent
}

// A server ends a connection without losing a request.
func ExampleConn_Drain() {
	client, server := http2.New(http2.Config{Role: http2.Client}), http2.New(http2.Config{Role: http2.Server})
	settle(client, server)
	id, _ := client.OpenStream(request("GET"), true)
	server.Drain() // the request is on its way, and served
	move(client, server)
	move(server, client)
	move(client, server)
	fmt.Println("client draining:", client.Draining(), "server done:", server.Done())

	_ = server.WriteHeaders(id, status("204"), true)
	fmt.Println("server done:", server.Done())
	// Output:
	// client draining: true server done: false
	// server done: true
}

// A violation costs the connection, and the peer is told why.
func ExampleConnError() {
	server := http2.New(http2.Config{Role: http2.Server})
	_, err := server.Feed([]byte("GET / HTTP/1.1\r\n"))
	var broken *http2.ConnError
	fmt.Println(errors.As(err, &broken), broken.Code == xhttp2.ErrCodeProtocol, broken.Reason)
	// Output: true true invalid connection preface
}
