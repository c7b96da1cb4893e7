package mux_test

import (
	"io"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/underlane/underlane/pkg/l7proxy/http2"
	"github.com/underlane/underlane/pkg/l7proxy/mux"
)

// counted counts how often goroutines go on after a wait.
type counted struct{ n atomic.Int64 }

func (c *counted) Pause()  {}
func (c *counted) Resume() { c.n.Add(1) }

// Of many writers that wait for the same room on the connection, only those wake up whose bytes
// it took.
func TestWritersWakeUpOnce(t *testing.T) {
	client, _ := pair(t, func(s *mux.Stream) {
		_, _ = io.Copy(io.Discard, struct{ io.Reader }{s})
		s.Close()
	})
	var all sync.WaitGroup
	var turns counted
	for range mux.MaxStreams {
		s := client.Open()
		s.WritesInTurn(&turns)
		all.Go(func() {
			defer s.Close()
			if n, err := s.Write(make([]byte, 8*http2.DefaultStreamWindow)); err != nil {
				t.Errorf("wrote %d bytes: %v", n, err)
			}
		})
	}
	all.Wait()
	if got, most := turns.n.Load(), int64(2*mux.MaxStreams); got > most {
		t.Errorf("%d writers woke up %d times, want %d times at most", mux.MaxStreams, got, most)
	}
}
