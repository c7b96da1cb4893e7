// Command wstest is a WebSocket echo server and a client that checks the echo. Both
// use github.com/coder/websocket.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// largest is the size of the largest message, which is sent in one frame.
const largest = 16 << 20

func main() {
	listen := flag.String("listen", "", "serve here: /echo echoes, /bye closes with a status of its own; without it, be a client of the URL given")
	idle := flag.Duration("idle", 0, "how long the client keeps silent before it goes on")
	flag.Parse()
	err := errors.New("want --listen ADDRESS or a URL, ws://HOST:PORT")
	switch {
	case *listen != "":
		err = serve(*listen)
	case flag.NArg() == 1:
		err = check(strings.TrimSuffix(flag.Arg(0), "/"), *idle)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "wstest:", err)
		os.Exit(1)
	}
}

func serve(addr string) error {
	handle := func(path string, do func(context.Context, *websocket.Conn)) {
		http.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"echo"}})
			if err != nil {
				fmt.Fprintln(os.Stderr, "accept:", err)
				return
			}
			defer c.CloseNow()
			c.SetReadLimit(largest)
			do(r.Context(), c)
		})
	}
	handle("/echo", func(ctx context.Context, c *websocket.Conn) {
		for {
			kind, message, err := c.Read(ctx)
			if err != nil { // the library answers the client's close
				return
			}
			if err := c.Write(ctx, kind, message); err != nil {
				return
			}
		}
	})
	handle("/bye", func(_ context.Context, c *websocket.Conn) {
		_ = c.Close(websocket.StatusPolicyViolation, "not here")
	})
	return http.ListenAndServe(addr, nil)
}

func check(url string, idle time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute+idle)
	defer cancel()
	c, resp, err := websocket.Dial(ctx, url+"/echo", &websocket.DialOptions{Subprotocols: []string{"echo"}})
	if err != nil {
		return fmt.Errorf("dial: %w", err)
	}
	defer c.CloseNow()
	if resp.StatusCode != http.StatusSwitchingProtocols || c.Subprotocol() != "echo" {
		return fmt.Errorf("dial: status %d, subprotocol %q", resp.StatusCode, c.Subprotocol())
	}
	c.SetReadLimit(largest)
	for _, size := range []int{0, 1, 125, 126, 65535, 65536, 1 << 20, largest} { // the three length forms of a frame, and more
		if err := echo(ctx, c, websocket.MessageBinary, bytes.Repeat([]byte{'a', 0, 0xff}, size/3+1)[:size]); err != nil {
			return err
		}
	}
	time.Sleep(idle)
	if err := echo(ctx, c, websocket.MessageText, []byte("déjà vu")); err != nil {
		return err
	}
	if err := fragmented(ctx, c); err != nil {
		return err
	}
	// Ping needs a reader for the pong.
	reading := c.CloseRead(ctx)
	for range 10 {
		if err := c.Ping(ctx); err != nil {
			return fmt.Errorf("ping: %w", err)
		}
	}
	if err := c.Close(websocket.StatusNormalClosure, "done"); err != nil {
		return fmt.Errorf("close handshake: %w", err)
	}
	<-reading.Done()
	return closedByServer(ctx, url)
}

func echo(ctx context.Context, c *websocket.Conn, kind websocket.MessageType, message []byte) error {
	// Send while receiving: a message may be larger than all buffers on the path.
	sent := make(chan error, 1)
	go func() { sent <- c.Write(ctx, kind, message) }()
	gotKind, got, err := c.Read(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("echo of %d bytes: %w", len(message), err)
	case gotKind != kind || !bytes.Equal(got, message):
		return fmt.Errorf("echo of %v, %d bytes: got %v, %d bytes", kind, len(message), gotKind, len(got))
	}
	return <-sent
}

// fragmented sends a message in many frames and checks the echo.
func fragmented(ctx context.Context, c *websocket.Conn) error {
	w, err := c.Writer(ctx, websocket.MessageText)
	var want bytes.Buffer
	for i := 0; i < 1000 && err == nil; i++ {
		fmt.Fprintf(&want, "piece %d.", i)
		_, err = fmt.Fprintf(w, "piece %d.", i)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return fmt.Errorf("send in pieces: %w", err)
	}
	if _, got, err := c.Read(ctx); err != nil || !bytes.Equal(got, want.Bytes()) {
		return fmt.Errorf("message in pieces: got %d bytes of %d, %w", len(got), want.Len(), err)
	}
	return nil
}

// closedByServer checks that the status and the reason of the server's close
// arrive.
func closedByServer(ctx context.Context, url string) error {
	c, _, err := websocket.Dial(ctx, url+"/bye", nil)
	if err != nil {
		return fmt.Errorf("dial: %w", err)
	}
	defer c.CloseNow()
	_, _, err = c.Read(ctx)
	var closed websocket.CloseError
	if !errors.As(err, &closed) || closed.Code != websocket.StatusPolicyViolation || closed.Reason != "not here" {
		return fmt.Errorf("the server's close arrived as %w", err)
	}
	return nil
}
