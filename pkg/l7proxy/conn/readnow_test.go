package conn_test

import (
	"errors"
	"os"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
)

// TestReadNow: ReadNow reads what has arrived, also after a Read that a deadline has ended,
// and does not wait for what has not.
func TestReadNow(t *testing.T) {
	plain, far := proxytest.Pair(t)
	secure, secureFar, _ := proxytest.TLSPair(t)
	for name, ends := range map[string][2]conn.Conn{
		"plain":  {conn.Plain{Conn: plain}, conn.Plain{Conn: far}},
		"secure": {secure, secureFar},
	} {
		t.Run(name, func(t *testing.T) {
			near, far := ends[0], ends[1]
			buf := make([]byte, 10)
			_ = near.SetReadDeadline(time.Unix(1, 0))
			if n, err := near.Read(buf); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("Read with a deadline in the past: %d bytes, error %v; want none and %v", n, err, os.ErrDeadlineExceeded)
			}
			_ = near.SetReadDeadline(time.Time{})
			if n, err := near.ReadNow(buf); n != 0 || err != nil {
				t.Errorf("ReadNow with nothing there: %d bytes, error %v; want neither", n, err)
			}
			if _, err := far.Write([]byte("hello")); err != nil {
				t.Fatal(err)
			}
			proxytest.Eventually(t, "the bytes arrive", func() bool { return !near.Idle() })
			n, err := near.ReadNow(buf)
			if got := string(buf[:n]); got != "hello" || err != nil {
				t.Errorf("ReadNow = %q, error %v; want %q", got, err, "hello")
			}
			if n, err := near.ReadNow(buf); n != 0 || err != nil {
				t.Errorf("ReadNow after it has read all: %d bytes, error %v; want neither", n, err)
			}
		})
	}
}
