package telemetry

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"testing"
	"time"
)

// Those who only hold their place take neither descriptors without end nor the
// turn of probes.
func TestIdleConnectionsAreBounded(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	ln, err := Listen(ctx, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, ln, New(Options{}).Handler()) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	var held []net.Conn
	for range maxFromOne + 20 {
		conn, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		held = append(held, conn)
	}
	for i, conn := range held[:20] {
		_ = conn.SetReadDeadline(time.Now().Add(3 * time.Second)) // below ReadHeaderTimeout
		if _, err := conn.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("connection %d is kept", i)
		}
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + ln.Addr().String() + "/live")
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal("a probe gets no answer:", err)
	}
	_ = resp.Body.Close()
}
