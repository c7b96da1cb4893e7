package l7proxy

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	xhttp2 "golang.org/x/net/http2"
)

// gathered reads from f until n streams have ended, and returns the body of each, and how
// many DATA frames came.
func (f *frames) gathered(n int) (bodies map[uint32]string, count int) {
	f.t.Helper()
	bodies = map[uint32]string{}
	for n > 0 {
		fr, err := f.fr.ReadFrame()
		f.must(err)
		switch fr := fr.(type) {
		case *xhttp2.DataFrame:
			bodies[fr.StreamID] += string(fr.Data())
			if count++; fr.StreamEnded() {
				n--
			}
			if len(fr.Data()) > 0 {
				f.must(f.fr.WriteWindowUpdate(0, uint32(len(fr.Data()))))
				f.must(f.fr.WriteWindowUpdate(fr.StreamID, uint32(len(fr.Data()))))
			}
		case *xhttp2.MetaHeadersFrame:
			if fr.StreamEnded() {
				bodies[fr.StreamID] += "|" + fr.Fields[0].Name
				n--
			}
		case *xhttp2.SettingsFrame:
			if !fr.IsAck() {
				f.must(f.fr.WriteSettingsAck())
			}
		case *xhttp2.RSTStreamFrame, *xhttp2.GoAwayFrame:
			f.t.Fatalf("got %v, want DATA", fr)
		}
	}
	return bodies, count
}

// small writes bodies of 100 payloads of a byte each on streams in turn, with an end of
// another kind on each stream, and returns the bodies. All of it comes with one write.
func (f *frames) small(streams int) map[uint32]string {
	f.t.Helper()
	out, nc := &bytes.Buffer{}, f.nc
	framer := f.fr
	f.fr = xhttp2.NewFramer(out, nil)
	want := map[uint32]string{}
	for i := range 100 {
		for s := range uint32(streams) {
			id, letter := 2*s+1, string(rune('a'+(i+int(s))%26))
			f.data(id, s%3 == 0 && i == 99, letter)
			want[id] += letter
		}
	}
	for s := range uint32(streams) {
		switch id := 2*s + 1; s % 3 {
		case 1:
			f.data(id, true, "")
		case 2:
			f.headers(id, true, "trailer", "x")
			want[id] += "|trailer"
		}
	}
	f.fr = framer
	_, err := nc.Write(out.Bytes())
	f.must(err)
	return want
}

// TestH2Gathers: small payloads that come together are sent on in few frames, in their
// order and with each kind of end, through windows of every size, in both directions.
func TestH2Gathers(t *testing.T) {
	const streams = 8
	for _, window := range []uint32{65_535, 16, 1} {
		t.Run(fmt.Sprint("window ", window), func(t *testing.T) {
			b := newBackend(t)
			e := newH2Env(t, b.addr)
			setting := xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: window}
			c := dialFrames(t, e.addr, setting)
			for s := range uint32(streams) {
				c.headers(2*s+1, false, ":method", "POST", ":scheme", "http", ":path", "/", ":authority", "a")
			}
			s := serveFrames(b.accept(), setting)
			for range streams {
				if got := s.next(); !strings.HasPrefix(got, "HEADERS") {
					t.Fatalf("got %s, want HEADERS", got)
				}
			}
			check := func(way string, from, to *frames) {
				t.Helper()
				want := from.small(streams)
				got, count := to.gathered(streams)
				for id, body := range want {
					if got[id] != body {
						t.Errorf("%s, stream %d: got %q, want %q", way, id, got[id], body)
					}
				}
				// The least piece of a read has 6 payloads of each stream.
				if most := 100 * streams / 2; window > 100 && count > most {
					t.Errorf("%s: %d frames for %d payloads, want at most %d", way, count, 100*streams, most)
				}
			}
			check("request", c, s)
			for i := range uint32(streams) {
				s.headers(2*i+1, false, ":status", "200")
			}
			for range streams {
				if got := c.next(); !strings.HasPrefix(got, "HEADERS") {
					t.Fatalf("got %s, want HEADERS", got)
				}
			}
			check("response", s, c)
		})
	}
}

// TestH2GathersThenReset: what was gathered of a stream goes before nothing else when the
// stream is reset in the same read, and the other streams go on.
func TestH2GathersThenReset(t *testing.T) {
	b := newBackend(t)
	e := newH2Env(t, b.addr)
	c := dialFrames(t, e.addr)
	for _, id := range []uint32{1, 3} {
		c.headers(id, false, ":method", "POST", ":scheme", "http", ":path", "/", ":authority", "a")
	}
	s := serveFrames(b.accept())
	s.next()
	s.next()
	var out bytes.Buffer
	framer := c.fr
	c.fr = xhttp2.NewFramer(&out, nil)
	for range 10 {
		c.data(1, false, "x")
		c.data(3, false, "y")
	}
	c.must(c.fr.WriteRSTStream(1, xhttp2.ErrCodeCancel))
	c.data(3, true, "z")
	c.fr = framer
	_, err := c.nc.Write(out.Bytes())
	c.must(err)
	body, reset := "", false
	for body != "yyyyyyyyyyz" || !reset {
		fr, err := s.fr.ReadFrame()
		s.must(err)
		switch fr := fr.(type) {
		case *xhttp2.DataFrame:
			if fr.StreamID == 3 {
				body += string(fr.Data())
			} else if reset {
				t.Error("DATA of stream 1 after its reset")
			}
		case *xhttp2.RSTStreamFrame:
			reset = fr.StreamID == 1 && fr.ErrCode == xhttp2.ErrCodeCancel
		}
	}
}
