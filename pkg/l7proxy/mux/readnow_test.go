package mux_test

import (
	"testing"

	"github.com/underlane/underlane/pkg/l7proxy/mux"
	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
)

// TestReadNow: ReadNow reads what a stream holds, and does not wait for what it does not.
func TestReadNow(t *testing.T) {
	accepted := make(chan *mux.Stream, 1)
	client, _ := pair(t, func(s *mux.Stream) { accepted <- s })
	near := client.Open()
	if _, err := near.Write([]byte("hello")); err != nil { // the opening goes out with it
		t.Fatal(err)
	}
	far := <-accepted
	buf := make([]byte, 10)
	if n, err := near.ReadNow(buf); n != 0 || err != nil {
		t.Errorf("ReadNow with nothing there: %d bytes, error %v; want neither", n, err)
	}
	proxytest.Eventually(t, "the bytes arrive", func() bool { return !far.Idle() })
	n, err := far.ReadNow(buf)
	if got := string(buf[:n]); got != "hello" || err != nil {
		t.Errorf("ReadNow = %q, error %v; want %q", got, err, "hello")
	}
	if n, err := far.ReadNow(buf); n != 0 || err != nil {
		t.Errorf("ReadNow after it has read all: %d bytes, error %v; want neither", n, err)
	}
}
