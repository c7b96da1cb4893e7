package h2conn_test

import (
	"bytes"
	"sync/atomic"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/h2conn"
	"github.com/underlane/underlane/pkg/l7proxy/http2"
	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
)

// slowly has the peer wait after each input with an event.
type slowly struct {
	wait time.Duration
	rest atomic.Int64 // inputs until the last one
	last atomic.Uint32
}

func (s *slowly) Event(_ *http2.Event, b *h2conn.Batch) {
	if round := b.Round(); s.last.Swap(round+1) != round+1 {
		s.rest.Add(-1)
	}
	b.Pause(s.wait)
}

// TestSlowInPieces: a peer that has to wait waits also between the pieces of what it has sent at
// once meanwhile.
func TestSlowInPieces(t *testing.T) {
	a, b := proxytest.Pair(t)
	defer a.Close()
	owner := &slowly{wait: 30 * time.Millisecond}
	const pieces = 6
	owner.rest.Store(pieces)
	c := h2conn.New(conn.Plain{Conn: b}, http2.Config{Role: http2.Server, MaxStreams: 1000}, nil)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = c.Run(owner, nil)
		c.End()
	}()
	var out bytes.Buffer
	fr := xhttp2.NewFramer(&out, nil)
	id := uint32(1)
	requests := func(n int) {
		t.Helper()
		for range n {
			_ = fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: id, EndHeaders: true, EndStream: true, BlockFragment: []byte{0x82, 0x87, 0x84, 0x41, 1, 'a'}})
			id += 2
		}
		if _, err := a.Write(out.Bytes()); err != nil {
			t.Fatal(err)
		}
		out.Reset()
	}
	began := time.Now()
	out.WriteString(xhttp2.ClientPreface)
	_ = fr.WriteSettings()
	requests(1)
	proxytest.Eventually(t, "the first request is handled", func() bool { return owner.rest.Load() < pieces })
	requests((pieces - 1) * (2 << 10) / 15) // a frame has 15 bytes, and a piece 2 KiB
	proxytest.Eventually(t, "all of it is handled", func() bool { return owner.rest.Load() <= 0 })
	if took, least := time.Since(began), (pieces-1)*owner.wait; took < least {
		t.Errorf("%d pieces took %v, want %v at least", pieces, took, least)
	}
	a.Close()
	<-ended
}
