package conn_test

import (
	"io"
	"os"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/mux"
	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
)

// pairs has both ends of each kind of connection.
func pairs(t *testing.T) map[string][2]conn.Conn {
	a, b := proxytest.Pair(t)
	client, server, _ := proxytest.TLSPair(t)
	clientSide, serverSide := proxytest.Pair(t)
	streams := make(chan *mux.Stream, 1)
	opens := mux.NewClient(mux.HTTP1, conn.Plain{Conn: clientSide}, nil, nil)
	accepts := mux.NewServer(mux.HTTP1, conn.Plain{Conn: serverSide}, nil, func(s *mux.Stream) { streams <- s })
	for _, c := range []*mux.Conn{opens, accepts} {
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = c.Run(nil)
			c.End()
		}()
		t.Cleanup(func() { c.NC.Close(); <-ended })
	}
	stream := opens.Open()
	if _, err := stream.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	accepted := <-streams
	if _, err := accepted.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return map[string][2]conn.Conn{
		"plain":  {conn.Plain{Conn: a}, conn.Plain{Conn: b}},
		"mTLS":   {client, server},
		"stream": {stream, accepted},
	}
}

// TestOffer: an Offer never waits, and keeps what the peer does not take, which Flush sends
// in its place. A Flush that was interrupted goes on later.
func TestOffer(t *testing.T) {
	for name, ends := range pairs(t) {
		t.Run(name, func(t *testing.T) {
			from, to := ends[0], ends[1]
			sum, sent, p := proxytest.NewPattern(1<<40), int64(0), make([]byte, 40_000)
			offer := func() (kept int) {
				t.Helper()
				if _, err := io.ReadFull(sum, p); err != nil {
					t.Fatal(err)
				}
				kept, err := from.Offer(p)
				if err != nil {
					t.Fatal(err)
				}
				sent += int64(len(p))
				clear(p) // the caller may use its buffer for something else
				return kept
			}
			kept := 0
			for kept == 0 {
				kept = offer()
			}
			if most := len(p) + 200; kept > most { // with the framing of TLS
				t.Errorf("%d bytes are kept of %d, want at most %d", kept, len(p), most)
			}
			_ = from.SetWriteDeadline(time.Unix(1, 0))
			if err := from.Flush(); !os.IsTimeout(err) {
				t.Errorf("a Flush while the peer does not read: got %v, want a timeout", err)
			}
			_ = from.SetWriteDeadline(time.Time{})
			var got string
			var n int64
			ended := make(chan error, 1)
			go func() {
				var err error
				got, n, err = proxytest.Sum(to)
				ended <- err
			}()
			if err := from.Flush(); err != nil {
				t.Error(err)
			}
			for range 100 {
				if offer() > 0 {
					if err := from.Flush(); err != nil {
						t.Error(err)
					}
				}
			}
			if err := from.CloseWrite(); err != nil {
				t.Error(err)
			}
			if err := <-ended; err != nil || n != sent || got != proxytest.PatternSum(sent) {
				t.Errorf("got %d bytes and %v, want %d without an error, or their content differs", n, err, sent)
			}
		})
	}
}
