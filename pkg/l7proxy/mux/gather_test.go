package mux_test

import (
	"bytes"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/underlane/underlane/pkg/fairshare"
	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/mux"
	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
)

// takes counts what a sink gets. Each call takes some time.
type takes struct {
	calls, bytes atomic.Int64
	each         time.Duration
}

func (s *takes) Take(p []byte) (kept int, err error) {
	s.calls.Add(1)
	s.bytes.Add(int64(len(p)))
	for began := time.Now(); time.Since(began) < s.each; {
	}
	return 0, nil
}
func (s *takes) Drain() error   { return nil }
func (s *takes) Go(f func())    { go f() }
func (s *takes) From(conn.Conn) {}
func (s *takes) End(error)      {}

// TestBytesForOneWrite: a peer that sends DATA of one byte on several streams in turns does not
// make this end write to their servers for each byte, also where pods contend, and it handles
// what it has read in pieces.
func TestBytesForOneWrite(t *testing.T) {
	for _, test := range []struct {
		name      string
		streams   int
		took      time.Duration // by a write
		contended bool
		most      float64 // writes for a byte
	}{
		{"few streams", 8, 0, false, 1. / 8},
		{"many streams, slow writes, contended", 60, 10 * time.Microsecond, true, 1. / 2},
	} {
		t.Run(test.name, func(t *testing.T) { bytesForOneWrite(t, test.streams, test.took, test.contended, test.most) })
	}
}

func bytesForOneWrite(t *testing.T, streams int, took time.Duration, contended bool, share float64) {
	const each = 200
	var reader *fairshare.Task
	if contended {
		reader = new(fairshare.Task)
		reader.Charge(fairshare.NewContended(2).Account())
	}
	a, b := proxytest.Pair(t)
	defer a.Close()
	_ = a.SetDeadline(time.Now().Add(time.Minute))
	sink := takes{each: took}
	server := mux.NewServer(mux.Opaque, conn.Plain{Conn: b}, reader, func(s *mux.Stream) { s.Forward(&sink) })
	var running sync.WaitGroup
	running.Go(func() {
		_ = server.Run(nil)
		server.End()
	})
	var out, block bytes.Buffer
	out.WriteString(xhttp2.ClientPreface)
	fr, enc := xhttp2.NewFramer(&out, nil), hpack.NewEncoder(&block)
	_ = fr.WriteSettings()
	for n := range streams {
		block.Reset()
		_ = enc.WriteField(hpack.HeaderField{Name: ":method", Value: "CONNECT"})
		_ = enc.WriteField(hpack.HeaderField{Name: ":authority", Value: "tcp:40000"})
		_ = fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: uint32(2*n + 1), BlockFragment: block.Bytes(), EndHeaders: true})
	}
	for n := range streams * each {
		_ = fr.WriteData(uint32(2*(n%streams)+1), false, []byte{0})
	}
	if _, err := a.Write(out.Bytes()); err != nil {
		t.Fatal(err)
	}
	proxytest.Eventually(t, "all bytes have arrived", func() bool { return sink.bytes.Load() == int64(streams*each) })
	if got, most := sink.calls.Load(), int64(share*float64(streams*each)); got > most {
		t.Errorf("%d bytes were written by %d writes, want %d at most", streams*each, got, most)
	}
	a.Close()
	running.Wait()
}
