package l7proxy

import (
	"strings"
	"testing"

	xhttp2 "golang.org/x/net/http2"

	"github.com/underlane/underlane/pkg/l7proxy/http2"
)

// windows is the end of a stream that sends as much as it may.
type windows struct {
	*frames
	sent, granted int // bytes of the stream, and those that it may send
}

// take reads a frame, and counts what it grants.
func (w *windows) take() xhttp2.Frame {
	w.t.Helper()
	fr, err := w.fr.ReadFrame()
	w.must(err)
	switch fr := fr.(type) {
	case *xhttp2.WindowUpdateFrame:
		if fr.StreamID == 1 {
			w.granted += int(fr.Increment)
		}
	case *xhttp2.SettingsFrame:
		if v, ok := fr.Value(xhttp2.SettingInitialWindowSize); ok {
			w.granted = int(v)
		}
	}
	return fr
}

// settled reads what the proxy has said so far.
func (w *windows) settled() {
	w.t.Helper()
	w.must(w.fr.WritePing(false, [8]byte{1}))
	for {
		if p, ok := w.take().(*xhttp2.PingFrame); ok && p.IsAck() {
			return
		}
	}
}

// acknowledged waits until the proxy knows the settings of f.
func (f *frames) acknowledged() {
	f.t.Helper()
	for {
		fr, err := f.fr.ReadFrame()
		f.must(err)
		if s, ok := fr.(*xhttp2.SettingsFrame); ok && s.IsAck() {
			return
		}
	}
}

// fill sends what may be sent, at most most bytes in all.
func (w *windows) fill(most int) {
	for n := min(w.granted, most) - w.sent; n > 0; n = min(w.granted, most) - w.sent {
		n = min(n, 16<<10)
		w.data(1, false, strings.Repeat("x", n))
		w.sent += n
	}
}

// TestH2Windows: a stream has a window of 64 KiB while its receiver takes little, and one of
// 256 KiB when it takes much, in both directions.
func TestH2Windows(t *testing.T) {
	for _, upload := range []bool{false, true} {
		t.Run(map[bool]string{false: "download", true: "upload"}[upload], func(t *testing.T) {
			e, b := newEnv(t), newBackend(t)
			one := xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 1}
			c := dialFrames(t, e.to(b.addr), one)
			c.headers(1, !upload, ":method", "POST", ":scheme", "http", ":path", "/", ":authority", "svc")
			server := serveFrames(b.request(), one)
			from, to := &windows{frames: server}, c
			if upload {
				from, to = &windows{frames: c}, server
				server.acknowledged()
			} else {
				server.headers(1, false, ":status", "200")
			}
			from.settled()
			if from.granted != http2.FirstStreamWindow {
				t.Fatalf("a window of %d bytes at first", from.granted)
			}
			from.fill(1 << 20)
			from.settled()
			if from.granted > http2.FirstStreamWindow+1 {
				t.Fatalf("%d bytes may be sent to a receiver that takes one", from.granted)
			}

			to.must(to.fr.WriteWindowUpdate(0, 1<<20))
			to.must(to.fr.WriteWindowUpdate(1, 1<<20))
			go func() {
				for err := error(nil); err == nil; { // until the test has ended
					_, err = to.fr.ReadFrame()
				}
			}()
			const most = 1 << 20
			for from.sent < most || from.granted-from.sent <= http2.FirstStreamWindow {
				from.fill(most)
				if from.sent < most || from.granted-from.sent <= http2.FirstStreamWindow {
					from.take()
				}
				if more := from.granted - from.sent; more > http2.DefaultStreamWindow {
					t.Fatalf("%d bytes may be sent at once", more)
				}
			}
		})
	}
}
