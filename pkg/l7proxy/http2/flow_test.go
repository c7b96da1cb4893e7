package http2

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	xhttp2 "golang.org/x/net/http2"
)

func TestSendWindows(t *testing.T) {
	w := newWire(t, Config{Role: Server}, xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 10})
	w.get(1, true)
	w.feed("HEADERS 1 " + getEvent + " END")
	must(t, w.c.WriteHeaders(1, fieldList(":status", "200"), false))
	body := []byte("0123456789abcdef")
	n, err := w.c.WriteData(1, body, true)
	if n != 10 || err != nil {
		t.Fatalf("WriteData = %d, %v, want the window's 10", n, err)
	}
	if n, _ = w.c.WriteData(1, body[10:], true); n != 0 {
		t.Fatalf("WriteData took %d bytes with no window", n)
	}
	must(t, w.fr.WriteWindowUpdate(1, 3))
	w.feed("WINDOW 1")
	if n, _ = w.c.WriteData(1, body[10:], true); n != 3 {
		t.Fatalf("WriteData = %d, want 3", n)
	}
	// A smaller initial window makes the stream's window negative.
	must(t, w.fr.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 5}))
	must(t, w.fr.WriteWindowUpdate(1, 5))
	w.feed("SETTINGS")
	must(t, w.fr.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 50}))
	w.feed("WINDOW 1", "SETTINGS")
	if n, _ = w.c.WriteData(1, body[13:], true); n != 3 {
		t.Fatalf("WriteData = %d, want 3", n)
	}
	w.sent("HEADERS 1 :status=200", "DATA 1 len=10", "DATA 1 len=3", "SETTINGS 0 ack=true", "SETTINGS 0 ack=true", "DATA 1 len=3 END")
}

func TestSendConnectionWindow(t *testing.T) {
	w := newWire(t, Config{Role: Server, OutputLimit: 1 << 20}, xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 1 << 20})
	w.get(1, true)
	w.feed("HEADERS 1 " + getEvent + " END")
	must(t, w.c.WriteHeaders(1, fieldList(":status", "200"), false))
	n, _ := w.c.WriteData(1, make([]byte, 100<<10), false)
	if n != 65535 {
		t.Fatalf("WriteData = %d, want the connection's 65535", n)
	}
	must(t, w.fr.WriteWindowUpdate(0, 1))
	w.feed("WINDOW")
	if n, _ = w.c.WriteData(1, make([]byte, 10), false); n != 1 {
		t.Fatalf("WriteData = %d, want 1", n)
	}
}

func TestOutputLimit(t *testing.T) {
	w := newWire(t, Config{Role: Server, OutputLimit: 20 << 10}, xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 1 << 20})
	w.get(1, true)
	w.feed("HEADERS 1 " + getEvent + " END")
	must(t, w.c.WriteHeaders(1, fieldList(":status", "200"), false))
	n, _ := w.c.WriteData(1, make([]byte, 60<<10), false)
	if n != 32<<10 {
		t.Fatalf("WriteData = %d, want two frames", n)
	}
	if w.c.OutputOpened() {
		t.Error("OutputOpened while the output is full")
	}
	w.c.TakeOutput(nil)
	if !w.c.OutputOpened() || w.c.OutputOpened() {
		t.Error("OutputOpened must report once")
	}
}

// TestReceiveWindow: bytes stay charged until they are consumed, padding does not.
func TestReceiveWindow(t *testing.T) {
	w := newWire(t, Config{Role: Server, StreamWindow: 1000})
	w.get(1, false)
	must(t, w.fr.WriteData(1, false, make([]byte, 900)))
	_, err := w.c.Feed(w.in.Bytes())
	must(t, err)
	w.in.Reset()
	w.c.Consume(1, 499)
	w.sent()
	w.c.Consume(1, 1)
	w.sent("WINDOW_UPDATE 1 500")
	must(t, w.fr.WriteData(1, false, make([]byte, 600)))
	must(t, w.fr.WriteData(1, false, make([]byte, 1)))
	events, err := w.c.Feed(w.in.Bytes())
	must(t, err)
	w.in.Reset()
	if diff := cmp.Diff("RESET 1 FLOW_CONTROL_ERROR LOCAL", describeEvent(&events[len(events)-1])); diff != "" {
		t.Error(diff)
	}
	w.sent("RST_STREAM 1 FLOW_CONTROL_ERROR")

	w.get(3, false)
	for range 20 { // 20 × 101 bytes of padding in a window of 1000
		must(t, w.fr.WriteDataPadded(3, false, []byte("x"), make([]byte, 100)))
	}
	_, err = w.c.Feed(w.in.Bytes())
	must(t, err)
}

// TestConnectionWindowOfTheOthers: a stream that is not read holds most of the
// connection's window. The rest of the window still serves the other streams.
func TestConnectionWindowOfTheOthers(t *testing.T) {
	w := newWire(t, Config{Role: Server, StreamWindow: 200 << 10, ConnWindow: 256 << 10})
	granted := 256 << 10
	send := func(id uint32, n int) {
		t.Helper()
		for ; n > 0; n -= 8 << 10 {
			must(t, w.fr.WriteData(id, false, make([]byte, 8<<10)))
			granted -= 8 << 10
		}
		_, err := w.c.Feed(w.in.Bytes())
		must(t, err)
		w.in.Reset()
	}
	w.get(1, false)
	send(1, 200<<10) // this stream stalls
	w.get(3, false)
	for range 100 {
		send(3, 8<<10)
		w.c.Consume(3, 8<<10)
		for _, f := range w.frames() {
			var n int
			if _, err := fmt.Sscanf(f, "WINDOW_UPDATE 0 %d", &n); err == nil {
				granted += n
			}
		}
		if granted <= 0 {
			t.Fatal("a stream that is read waits for one that is not")
		}
	}
}

// TestConnectionWindowSurvivesResets: the bytes of closed streams are returned to the
// connection's window, which would be used up otherwise.
func TestConnectionWindowSurvivesResets(t *testing.T) {
	w := newWire(t, Config{Role: Server, ConnWindow: 100 << 10})
	granted := 100 << 10
	for id := uint32(1); id < 2*100; id += 2 {
		w.get(id, false)
		must(t, w.fr.WriteData(id, false, make([]byte, 8<<10)))
		events, err := w.c.Feed(w.in.Bytes())
		must(t, err)
		w.in.Reset()
		granted -= 8 << 10
		w.c.WriteReset(id, Cancel)
		if id%4 == 1 { // the driver consumes them, else the engine
			w.c.Consume(id, len(events[1].Payload))
		} else {
			w.c.Consume(id, len(events[1].Payload)-1)
			must(t, w.fr.WriteDataPadded(id, false, nil, []byte{}))
		}
		for _, f := range w.frames() {
			var n int
			if _, err := fmt.Sscanf(f, "WINDOW_UPDATE 0 %d", &n); err == nil {
				granted += n
			}
		}
		if granted < 0 {
			t.Fatalf("stream %d: the peer has no window left", id)
		}
	}
}

func TestMaxStreams(t *testing.T) {
	w := newWire(t, Config{Role: Server, MaxStreams: 2})
	w.get(1, true)
	w.get(3, true)
	w.get(5, true)
	w.feed("HEADERS 1 "+getEvent+" END", "HEADERS 3 "+getEvent+" END")
	w.sent("RST_STREAM 5 REFUSED_STREAM")
	must(t, w.c.WriteHeaders(1, fieldList(":status", "204"), true))
	w.get(7, true)
	w.feed("HEADERS 7 " + getEvent + " END")

	w = newWire(t, Config{Role: Client}, xhttp2.Setting{ID: xhttp2.SettingMaxConcurrentStreams, Val: 1})
	_, err := w.c.OpenStream(fieldList(getFields...), true)
	must(t, err)
	if _, err = w.c.OpenStream(fieldList(getFields...), true); err != ErrTooManyStreams {
		t.Errorf("OpenStream over the peer's limit: got %v, want %v", err, ErrTooManyStreams)
	}
}

func TestHeaderLimits(t *testing.T) {
	w := newWire(t, Config{Role: Server, MaxHeaderList: 300})
	w.get(1, true, "a", string(bytes.Repeat([]byte("x"), 200)))
	w.feed("HEADERS 1 " + getEvent + " TOOLARGE END")
	// HPACK's state is intact.
	w.get(3, true, "b", "1")
	w.feed("HEADERS 3 " + getEvent + " b=1 END")

	w = newWire(t, Config{Role: Server, MaxHeaderCount: 4})
	w.get(1, true, "a", "1")
	w.feed("HEADERS 1 " + getEvent + " TOOLARGE END")

	w = newWire(t, Config{Role: Client}, xhttp2.Setting{ID: xhttp2.SettingMaxHeaderListSize, Val: 100})
	if _, err := w.c.OpenStream(fieldList(getFields...), true); err != ErrHeaderTooLarge {
		t.Errorf("OpenStream over the peer's header limit: got %v, want %v", err, ErrHeaderTooLarge)
	}
}

func TestFloods(t *testing.T) {
	t.Run("malformed requests", func(t *testing.T) { // each requires a response
		w := newWire(t, Config{Role: Server})
		var err error
		for id := uint32(1); id < 2*1000 && err == nil; id += 2 {
			w.get(id, true, "X", "")
			_, err = w.c.Feed(w.in.Bytes())
			w.in.Reset()
			_ = w.c.WriteHeaders(id, fieldList(":status", "400"), false)
			w.c.WriteReset(id, ProtocolError)
			w.c.TakeOutput(nil)
		}
		if got := describe(nil, err); !slices.Equal(got, []string{"ENHANCE_YOUR_CALM"}) {
			t.Errorf("got %q, want ENHANCE_YOUR_CALM", got)
		}
	})
	t.Run("cancelled is fine", func(t *testing.T) {
		w := newWire(t, Config{Role: Server})
		for id := uint32(1); id < 2*10000; id += 2 {
			w.get(id, true)
			if id%6 != 1 {
				must(t, w.fr.WriteRSTStream(id, Cancel))
			}
			_, err := w.c.Feed(w.in.Bytes())
			must(t, err)
			w.in.Reset()
			_ = w.c.WriteHeaders(id, fieldList(":status", "204"), true)
			w.c.TakeOutput(nil)
		}
	})
	t.Run("ping", func(t *testing.T) {
		w := newWire(t, Config{Role: Server})
		for range 10000 {
			must(t, w.fr.WritePing(false, [8]byte{}))
		}
		w.feed("ENHANCE_YOUR_CALM")
	})
	t.Run("empty data", func(t *testing.T) {
		w := newWire(t, Config{Role: Server})
		w.get(1, false)
		for range 2000 {
			must(t, w.fr.WriteData(1, false, nil))
		}
		w.feed("HEADERS 1 "+getEvent, "ENHANCE_YOUR_CALM")
	})
}

func TestDrainServer(t *testing.T) {
	w := newWire(t, Config{Role: Server})
	w.get(1, true)
	w.feed("HEADERS 1 " + getEvent + " END")
	w.c.Drain()
	w.sent("GOAWAY 0 2147483647 NO_ERROR", "PING 0 ack=false")
	w.get(3, true) // sent before the GOAWAY arrived
	must(t, w.fr.WritePing(true, pingDrain))
	w.get(5, true)
	must(t, w.fr.WriteData(5, true, []byte("late")))
	w.feed("HEADERS 3 " + getEvent + " END")
	w.sent("GOAWAY 0 3 NO_ERROR")
	if w.c.Done() {
		t.Error("Done with two streams open")
	}
	must(t, w.c.WriteHeaders(1, fieldList(":status", "204"), true))
	must(t, w.c.WriteHeaders(3, fieldList(":status", "204"), true))
	if !w.c.Done() {
		t.Error("not Done")
	}
}

func TestGoAwayClient(t *testing.T) {
	w := newWire(t, Config{Role: Client})
	for range 3 {
		_, err := w.c.OpenStream(fieldList(getFields...), true)
		must(t, err)
	}
	w.headers(1, false, ":status", "200")
	must(t, w.fr.WriteGoAway(1, NoError, nil))
	w.feed("HEADERS 1 :status=200", "GOAWAY 1 NO_ERROR", "RESET 3 REFUSED_STREAM RETRYABLE GOINGAWAY", "RESET 5 REFUSED_STREAM RETRYABLE GOINGAWAY")
	if _, err := w.c.OpenStream(fieldList(getFields...), true); err != ErrGoingAway {
		t.Errorf("OpenStream after GOAWAY: got %v, want %v", err, ErrGoingAway)
	}
	must(t, w.fr.WriteData(1, true, nil))
	w.feed(`DATA 1 "" END`)
	if !w.c.Done() {
		t.Error("not Done")
	}
}

func TestClientResponses(t *testing.T) {
	for _, tt := range []struct {
		name, method string
		do           func(w *wire)
		want         []string
	}{
		{
			"HEAD", "HEAD", func(w *wire) { w.headers(1, true, ":status", "200", "content-length", "5") },
			[]string{"HEADERS 1 :status=200 content-length=5 END"},
		},
		{
			"304", "GET", func(w *wire) { w.headers(1, true, ":status", "304", "content-length", "5") },
			[]string{"HEADERS 1 :status=304 content-length=5 END"},
		},
		{
			"short", "GET", func(w *wire) { w.headers(1, true, ":status", "200", "content-length", "5") },
			[]string{"RESET 1 PROTOCOL_ERROR LOCAL"},
		},
		{"no status", "GET", func(w *wire) { w.headers(1, true, "a", "b") }, []string{"RESET 1 PROTOCOL_ERROR LOCAL"}},
		{"bad status", "GET", func(w *wire) { w.headers(1, true, ":status", "20x") }, []string{"RESET 1 PROTOCOL_ERROR LOCAL"}},
		{"101", "GET", func(w *wire) { w.headers(1, false, ":status", "101") }, []string{"RESET 1 PROTOCOL_ERROR LOCAL"}},
		{"interim ends", "GET", func(w *wire) { w.headers(1, true, ":status", "103") }, []string{"RESET 1 PROTOCOL_ERROR LOCAL"}},
		{"DATA first", "GET", func(w *wire) { must(w.t, w.fr.WriteData(1, true, []byte("x"))) }, []string{"RESET 1 PROTOCOL_ERROR LOCAL"}},
		{"refused", "GET", func(w *wire) { must(w.t, w.fr.WriteRSTStream(1, RefusedStream)) }, []string{"RESET 1 REFUSED_STREAM RETRYABLE"}},
		{"idle stream", "GET", func(w *wire) { w.headers(3, true, ":status", "200") }, []string{"PROTOCOL_ERROR"}},
		{"push", "GET", func(w *wire) {
			must(w.t, w.fr.WritePushPromise(xhttp2.PushPromiseParam{StreamID: 1, PromiseID: 2, EndHeaders: true}))
		}, []string{"PROTOCOL_ERROR"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWire(t, Config{Role: Client})
			_, err := w.c.OpenStream(fieldList(":method", tt.method, ":scheme", "http", ":path", "/"), true)
			must(t, err)
			tt.do(w)
			w.feed(tt.want...)
		})
	}
	t.Run("late answer to a cancelled stream", func(t *testing.T) {
		w := newWire(t, Config{Role: Client})
		id, err := w.c.OpenStream(fieldList(getFields...), true)
		must(t, err)
		w.c.WriteReset(id, Cancel)
		w.headers(id, false, ":status", "200", "x", "y")
		must(t, w.fr.WriteData(id, true, []byte("x")))
		w.feed()
		id, err = w.c.OpenStream(fieldList(getFields...), true)
		must(t, err)
		w.headers(id, true, ":status", "200", "x", "y")
		w.feed("HEADERS 3 :status=200 x=y END")
	})
}
