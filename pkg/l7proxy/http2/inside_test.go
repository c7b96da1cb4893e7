package http2

import (
	"bytes"
	"testing"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// TestInside: true only if the rest of something that has begun is still to come.
func TestInside(t *testing.T) {
	var wire, block bytes.Buffer
	framer, enc := xhttp2.NewFramer(&wire, nil), hpack.NewEncoder(&block)
	take := func() []byte { defer wire.Reset(); return bytes.Clone(wire.Bytes()) }
	headers := func(id uint32, end, whole bool) []byte {
		block.Reset()
		for _, f := range []Field{{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "http"}, {Name: ":path", Value: "/"}, {Name: ":authority", Value: "x"}} {
			_ = enc.WriteField(f)
		}
		_ = framer.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndStream: end, EndHeaders: whole})
		return take()
	}
	data := func(id uint32, end bool) []byte { _ = framer.WriteData(id, end, []byte("hello")); return take() }
	rest := func(id uint32) []byte { _ = framer.WriteContinuation(id, true, nil); return take() }
	reset := func(id uint32) []byte { _ = framer.WriteRSTStream(id, xhttp2.ErrCodeCancel); return take() }
	_ = framer.WriteSettings()
	settings := take()
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

	c := New(Config{Role: Server})
	for _, step := range []struct {
		name string
		in   []byte
		want bool
	}{
		{"half the preface", []byte(xhttp2.ClientPreface[:10]), true},
		{"the rest of it, and settings", join([]byte(xhttp2.ClientPreface[10:]), settings), false},
		{"a whole request", headers(1, true, true), false},
		{"a request without its body", headers(3, false, true), true},
		{"some of the body", data(3, false), false},
		{"the end of the body", data(3, true), false},
		{"a request with its body", join(headers(5, false, true), data(5, true)), false},
		{"a request with some of its body", join(headers(7, false, true), data(7, false)), true},
		{"a whole request after one without its body", join(headers(9, false, true), headers(11, true, true)), true},
		{"a request that is cancelled", join(headers(13, false, true), reset(13)), false},
		{"half a header", data(3, true)[:4], true},
	} {
		if _, err := c.Feed(step.in); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if got := c.Inside(); got != step.want {
			t.Errorf("%s: got %t, want %t", step.name, got, step.want)
		}
		c.TakeOutput(nil)
	}
	c, enc = New(Config{Role: Server}), hpack.NewEncoder(&block)
	for _, in := range [][]byte{join([]byte(xhttp2.ClientPreface), settings, headers(1, true, false)), rest(1)} {
		_, err := c.Feed(in)
		if want := len(in) > 20; err != nil || c.Inside() != want {
			t.Errorf("a field section in two frames: %t, %v; want %t", c.Inside(), err, want)
		}
	}
}
