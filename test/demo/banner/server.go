package banner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// ServerVersion is the version in the handshake.
	ServerVersion = "8.0.99-underlane-demo"
	// Greeting is the answer to QueryGreeting.
	Greeting = "May the best emoji win!"
	// QueryGreeting asks for the greeting.
	QueryGreeting = "SELECT greeting FROM banner"

	idleTimeout = time.Minute
)

// Serve answers clients of ln until ctx ends, and then closes their connections. It
// closes ln.
func Serve(ctx context.Context, ln net.Listener) error {
	var (
		clients     sync.WaitGroup
		connections atomic.Uint32
	)
	defer clients.Wait()
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	for {
		conn, err := ln.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		clients.Go(func() {
			defer context.AfterFunc(ctx, func() { conn.Close() })()
			defer conn.Close()
			if err := answer(conn, connections.Add(1)); err != nil && ctx.Err() == nil {
				slog.Warn("client failed", "client", conn.RemoteAddr().String(), "error", err)
			}
		})
	}
}

// answer sends the handshake, and then answers packet by packet until the client
// leaves.
func answer(conn net.Conn, number uint32) error {
	if err := writePacket(conn, 0, handshake(ServerVersion, number)); err != nil {
		return err
	}
	for {
		if err := conn.SetReadDeadline(time.Now().Add(idleTimeout)); err != nil {
			return fmt.Errorf("set deadline: %w", err)
		}
		seq, payload, err := readPacket(conn)
		if errors.Is(err, io.EOF) || err == nil && payload[0] == comQuit {
			return nil
		}
		if err != nil {
			return err
		}
		if err := writePacket(conn, seq+1, reply(payload)); err != nil {
			return err
		}
	}
}

// reply returns the payload that answers a client's payload.
func reply(payload []byte) []byte {
	switch command, text := payload[0], string(payload[1:]); {
	case command == comPing:
		return []byte{isOK}
	case command == comQuery && text == QueryGreeting:
		return append([]byte{isOK}, Greeting...)
	case command == comQuery:
		return append([]byte{isError}, "unknown query: try "+QueryGreeting...)
	default:
		return append([]byte{isError}, fmt.Sprintf("unknown command 0x%02x", command)...)
	}
}
