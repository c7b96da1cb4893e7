package conn_test

import (
	"testing"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
)

// TestLookRests: directions are told to give their goroutines up a few at a time.
func TestLookRests(t *testing.T) {
	const relays = 40
	var lot conn.Lot
	over := make(chan struct{}, relays)
	var close []func()
	for range relays {
		client, a := proxytest.Pair(t)
		b, server := proxytest.Pair(t)
		r := &conn.Relay{Client: conn.Plain{Conn: a}, Server: conn.Plain{Conn: b}, Lot: &lot}
		go func() {
			if r.Begin(nil, nil) {
				t.Error("the relay has ended")
			}
			r.GoOn(func(*conn.Defect) { over <- struct{}{} })
		}()
		close = append(close, func() { _, _ = client.Close(), server.Close() })
	}
	rests := 0
	proxytest.Eventually(t, "all wait without a goroutine", func() bool {
		lot.Look()
		rests += lot.Rests()
		return lot.Parked() == 2*relays
	})
	// Each look tells those that it finds waiting, and rests after each 16 of them.
	if least := 1; rests < least {
		t.Errorf("%d rests, want at least %d", rests, least)
	}
	for _, f := range close {
		f()
	}
	for range relays {
		<-over
	}
	_ = lot.Close()
}
