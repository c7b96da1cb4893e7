package banner

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

// Report is what a client saw of a server, with times since the start of the
// connection.
type Report struct {
	ServerVersion string        `json:"serverVersion"`
	Greeting      string        `json:"greeting"`
	Connected     time.Duration `json:"connected"` // nanoseconds, like the others
	Spoke         time.Duration `json:"spoke"`     // the handshake was complete
	Answered      time.Duration `json:"answered"`  // the query was answered
}

// Visit connects to a banner service, waits for it to speak, and asks for the
// greeting. It is bounded by ctx.
func Visit(ctx context.Context, addr string) (Report, error) {
	var (
		r      Report
		dialer net.Dialer
		start  = time.Now()
	)
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return r, fmt.Errorf("banner service: %w", err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	r.Connected = time.Since(start)

	_, payload, err := readPacket(conn)
	if err != nil {
		return r, fmt.Errorf("banner service %s: wait for it to speak: %w", addr, errors.Join(ctx.Err(), err))
	}
	r.Spoke = time.Since(start)
	if r.ServerVersion, err = parseHandshake(payload); err != nil {
		return r, fmt.Errorf("banner service %s: %w", addr, err)
	}
	if r.Greeting, err = query(conn, QueryGreeting); err != nil {
		return r, fmt.Errorf("banner service %s: %w", addr, errors.Join(ctx.Err(), err))
	}
	r.Answered = time.Since(start)
	return r, writePacket(conn, 0, []byte{comQuit})
}

func query(conn net.Conn, text string) (string, error) {
	if err := writePacket(conn, 0, append([]byte{comQuery}, text...)); err != nil {
		return "", err
	}
	_, payload, err := readPacket(conn)
	if err != nil {
		return "", err
	}
	if answer := string(payload[1:]); payload[0] != isOK {
		return "", fmt.Errorf("query %q: the server says: %s", text, answer)
	} else {
		return answer, nil
	}
}
