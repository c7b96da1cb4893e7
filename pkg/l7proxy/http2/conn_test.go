package http2

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
	xhttp2 "golang.org/x/net/http2"
)

func TestServerExchange(t *testing.T) {
	w := newWire(t, Config{Role: Server})
	w.get(1, false, "te", "trailers")
	must(t, w.fr.WriteData(1, false, []byte("hello")))
	must(t, w.fr.WriteDataPadded(1, false, []byte("padded"), make([]byte, 40)))
	w.headers(1, true, "x-sum", "11")
	w.feed("HEADERS 1 "+getEvent+" te=trailers", `DATA 1 "hello"`, `DATA 1 "padded"`, "HEADERS 1 x-sum=11 TRAILERS END")
	must(t, w.c.WriteHeaders(1, fieldList(":status", "103"), false))
	must(t, w.c.WriteHeaders(1, fieldList(":status", "200"), false))
	n, err := w.c.WriteData(1, []byte("answer"), false)
	if n != 6 || err != nil {
		t.Fatalf("WriteData = %d, %v", n, err)
	}
	must(t, w.c.WriteTrailers(1, fieldList("grpc-status", "0")))
	w.sent("HEADERS 1 :status=103", "HEADERS 1 :status=200", "DATA 1 len=6", "HEADERS 1 grpc-status=0 END")
	if w.c.Streams() != 0 {
		t.Errorf("Streams = %d after both ends, want 0", w.c.Streams())
	}
	if _, err := w.c.WriteData(1, []byte("x"), true); err != ErrStreamClosed {
		t.Errorf("WriteData on a closed stream: got %v, want %v", err, ErrStreamClosed)
	}
}

func TestClientExchange(t *testing.T) {
	w := newWire(t, Config{Role: Client})
	id, err := w.c.OpenStream(fieldList(getFields...), true)
	must(t, err)
	w.sent("HEADERS 1 " + getEvent + " END")
	w.headers(id, false, ":status", "100")
	w.headers(id, false, ":status", "200", "content-length", "2")
	must(t, w.fr.WriteData(id, false, []byte("ok")))
	must(t, w.fr.WriteData(id, true, nil))
	w.feed("HEADERS 1 :status=100", "HEADERS 1 :status=200 content-length=2", `DATA 1 "ok"`, `DATA 1 "" END`)
	w.sent()
}

func TestPreface(t *testing.T) {
	w := rawWire(t, Config{Role: Server})
	w.sent("SETTINGS 0 ack=false", "WINDOW_UPDATE 0 983041")
	w.in.WriteString("GET / HTTP/1.1\r\n")
	w.feed("PROTOCOL_ERROR")
	w.sent("GOAWAY 0 0 PROTOCOL_ERROR")
	w.in.WriteString("more")
	w.feed("PROTOCOL_ERROR")
	w.sent()

	w = rawWire(t, Config{Role: Server})
	w.in.WriteString(xhttp2.ClientPreface)
	must(t, w.fr.WritePing(false, [8]byte{}))
	w.feed("PROTOCOL_ERROR")
}

func TestContinuation(t *testing.T) {
	w := newWire(t, Config{Role: Server})
	block := w.block(append(append([]string(nil), getFields...), "x-a", "1")...)
	must(t, w.fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: block[:3], EndStream: true}))
	w.feed() // the section continues in the next Feed
	must(t, w.fr.WriteContinuation(1, false, block[3:9]))
	must(t, w.fr.WriteContinuation(1, true, block[9:]))
	w.feed("HEADERS 1 " + getEvent + " x-a=1 END")

	must(t, w.fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 3, BlockFragment: w.block(getFields...)}))
	must(t, w.fr.WriteData(1, false, nil))
	w.feed("PROTOCOL_ERROR")

	w = newWire(t, Config{Role: Server})
	must(t, w.fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1}))
	for range 100 {
		must(t, w.fr.WriteContinuation(1, false, nil))
	}
	w.feed("ENHANCE_YOUR_CALM")
}

func TestLargeSectionIsSplit(t *testing.T) {
	w := newWire(t, Config{Role: Client})
	value := string(bytes.Repeat([]byte{'~'}, 40<<10)) // not Huffman coded, which would make '~' longer
	_, err := w.c.OpenStream(append(fieldList(getFields...), Field{Name: "x-big", Value: value}), true)
	must(t, err)
	w.sent("HEADERS 1 "+getEvent+" … END", "CONTINUATION 1 …", "CONTINUATION 1 x-big="+value)
}

func TestSensitiveStaysSensitive(t *testing.T) {
	w := newWire(t, Config{Role: Server})
	must(t, w.enc.WriteField(Field{Name: ":method", Value: "GET"}))
	w.hbuf.Reset()
	var block bytes.Buffer
	block.Write(w.block(getFields...))
	w.hbuf.Reset()
	must(t, w.enc.WriteField(Field{Name: "authorization", Value: "secret", Sensitive: true}))
	block.Write(w.hbuf.Bytes())
	must(t, w.fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true}))
	events, err := w.c.Feed(w.in.Bytes())
	must(t, err)

	next := newWire(t, Config{Role: Client})
	_, err = next.c.OpenStream(events[0].Fields, true)
	must(t, err)
	if out := next.c.TakeOutput(nil); !bytes.Contains(out, []byte{0x10 | 0xf}) { // RFC 7541 §6.2.3 with a name index of 15 or more
		t.Errorf("got %x, want a never-indexed literal in it", out)
	}
}

// TestStreamErrors: violations that end one stream.
func TestStreamErrors(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(w *wire)
		want string // error code of the RST_STREAM on stream 1; "400": EventMalformed, to which the driver responds
		seen bool   // an event named the stream before
	}{
		{"upper case name", func(w *wire) { w.get(1, true, "X-A", "1") }, "400", false},
		{"space in name", func(w *wire) { w.get(1, true, "x a", "1") }, "400", false},
		{"empty name", func(w *wire) { w.get(1, true, "", "1") }, "400", false},
		{"newline in value", func(w *wire) { w.get(1, true, "a", "1\n2") }, "400", false},
		{"connection field", func(w *wire) { w.get(1, true, "connection", "close") }, "400", false},
		{"transfer-encoding", func(w *wire) { w.get(1, true, "transfer-encoding", "chunked") }, "400", false},
		{"te", func(w *wire) { w.get(1, true, "te", "gzip") }, "400", false},
		{"pseudo after regular", func(w *wire) {
			w.headers(1, true, ":method", "GET", ":scheme", "http", "a", "b", ":path", "/")
		}, "400", false},
		{"duplicate pseudo", func(w *wire) { w.headers(1, true, append([]string{":method", "GET"}, getFields...)...) }, "400", false},
		{"unknown pseudo", func(w *wire) { w.headers(1, true, append([]string{":x", "y"}, getFields...)...) }, "400", false},
		{"response pseudo", func(w *wire) { w.headers(1, true, append([]string{":status", "200"}, getFields...)...) }, "400", false},
		{"no path", func(w *wire) { w.headers(1, true, ":method", "GET", ":scheme", "http") }, "400", false},
		{"empty path", func(w *wire) { w.headers(1, true, ":method", "GET", ":scheme", "http", ":path", "") }, "400", false},
		{"method not a token", func(w *wire) { w.headers(1, true, ":method", "G T", ":scheme", "http", ":path", "/") }, "400", false},
		{"host differs", func(w *wire) { w.get(1, true, "host", "b") }, "400", false},
		{"userinfo", func(w *wire) {
			w.headers(1, true, ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "u@a")
		}, "400", false},
		{"connect with path", func(w *wire) { w.headers(1, false, ":method", "CONNECT", ":authority", "a:1", ":path", "/") }, "400", false},
		{"content-length and no body", func(w *wire) { w.get(1, true, "content-length", "3") }, "400", false},
		{"content-length not a number", func(w *wire) { w.get(1, false, "content-length", "+3") }, "400", false},
		{"two content-lengths", func(w *wire) { w.get(1, false, "content-length", "3", "content-length", "4") }, "400", false},
		{"body too long", func(w *wire) {
			w.get(1, false, "content-length", "3")
			must(w.t, w.fr.WriteData(1, false, []byte("abcd")))
		}, "PROTOCOL_ERROR", true},
		{"body too short", func(w *wire) {
			w.get(1, false, "content-length", "3")
			must(w.t, w.fr.WriteData(1, true, []byte("ab")))
		}, "PROTOCOL_ERROR", true},
		{"trailers without END_STREAM", func(w *wire) { w.get(1, false); w.headers(1, false, "a", "b") }, "PROTOCOL_ERROR", true},
		{"pseudo in trailers", func(w *wire) { w.get(1, false); w.headers(1, true, ":path", "/") }, "PROTOCOL_ERROR", true},
		{"DATA after END_STREAM", func(w *wire) {
			w.get(1, true)
			must(w.t, w.fr.WriteData(1, true, nil))
		}, "STREAM_CLOSED", true},
		{"HEADERS after END_STREAM", func(w *wire) { w.get(1, true); w.headers(1, true, "a", "b") }, "STREAM_CLOSED", true},
		{"window update of 0", func(w *wire) {
			w.get(1, false)
			must(w.t, w.fr.WriteWindowUpdate(1, 0))
		}, "PROTOCOL_ERROR", true},
		{"stream window overflow", func(w *wire) {
			w.get(1, false)
			must(w.t, w.fr.WriteWindowUpdate(1, 1<<31-1))
		}, "FLOW_CONTROL_ERROR", true},
		{"depends on itself", func(w *wire) {
			must(w.t, w.fr.WriteHeaders(xhttp2.HeadersFrameParam{
				StreamID: 1, BlockFragment: w.block(getFields...), EndStream: true, EndHeaders: true,
				Priority: xhttp2.PriorityParam{StreamDep: 1},
			}))
		}, "PROTOCOL_ERROR", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWire(t, Config{Role: Server})
			tt.do(w)
			events, err := w.c.Feed(w.in.Bytes())
			must(t, err)
			reset := false
			for i := range events {
				reset = reset || events[i].Kind == EventReset && events[i].Local && events[i].Code.String() == tt.want
			}
			if reset != tt.seen {
				t.Errorf("Reset event = %v, want %v: %q", reset, tt.seen, describe(events, err))
			}
			if tt.want == "400" {
				if len(events) != 1 || events[0].Kind != EventMalformed || events[0].Reason == "" {
					t.Fatalf("%q", describe(events, err))
				}
				w.sent()
				must(t, w.c.WriteHeaders(1, fieldList(":status", "400"), false))
				w.c.WriteReset(1, ProtocolError)
				w.sent("HEADERS 1 :status=400", "RST_STREAM 1 PROTOCOL_ERROR")
			} else {
				w.sent("RST_STREAM 1 " + tt.want)
			}
			// Late frames for it are ignored; the connection continues.
			w.in.Reset()
			w.get(3, true)
			w.feed("HEADERS 3 " + getEvent + " END")
		})
	}
}

// TestConnErrors: violations that end the connection.
func TestConnErrors(t *testing.T) {
	raw := func(w *wire, typ xhttp2.FrameType, flags xhttp2.Flags, id uint32, n int) {
		must(w.t, w.fr.WriteRawFrame(typ, flags, id, make([]byte, n)))
	}
	for _, tt := range []struct {
		name string
		do   func(w *wire)
		want string
	}{
		{"even stream id", func(w *wire) { w.get(2, true) }, "PROTOCOL_ERROR"},
		{"lower stream id", func(w *wire) { w.get(5, true); w.get(3, true) }, "PROTOCOL_ERROR"},
		{"DATA on stream 0", func(w *wire) { raw(w, xhttp2.FrameData, 0, 0, 1) }, "PROTOCOL_ERROR"},
		{"DATA on idle", func(w *wire) { raw(w, xhttp2.FrameData, 0, 1, 1) }, "PROTOCOL_ERROR"},
		{"RST_STREAM on idle", func(w *wire) { raw(w, xhttp2.FrameRSTStream, 0, 1, 4) }, "PROTOCOL_ERROR"},
		{"WINDOW_UPDATE on idle", func(w *wire) { must(w.t, w.fr.WriteWindowUpdate(1, 1)) }, "PROTOCOL_ERROR"},
		{"WINDOW_UPDATE of 0", func(w *wire) { must(w.t, w.fr.WriteWindowUpdate(0, 0)) }, "PROTOCOL_ERROR"},
		{"window overflow", func(w *wire) { must(w.t, w.fr.WriteWindowUpdate(0, 1<<31-1)) }, "FLOW_CONTROL_ERROR"},
		{"pad over payload", func(w *wire) {
			w.get(1, false)
			must(w.t, w.fr.WriteRawFrame(xhttp2.FrameData, xhttp2.FlagDataPadded, 1, []byte{9, 1}))
		}, "PROTOCOL_ERROR"},
		{"pad byte missing", func(w *wire) { w.get(1, false); raw(w, xhttp2.FrameData, xhttp2.FlagDataPadded, 1, 0) }, "FRAME_SIZE_ERROR"},
		{"HEADERS pad over payload", func(w *wire) {
			must(w.t, w.fr.WriteRawFrame(xhttp2.FrameHeaders, xhttp2.FlagHeadersPadded|xhttp2.FlagHeadersEndHeaders, 1, []byte{9, 1}))
		}, "PROTOCOL_ERROR"},
		{"frame too large", func(w *wire) { raw(w, xhttp2.FrameData, 0, 1, maxFrameIn+1) }, "FRAME_SIZE_ERROR"},
		{"PING length", func(w *wire) { raw(w, xhttp2.FramePing, 0, 0, 7) }, "FRAME_SIZE_ERROR"},
		{"PING on a stream", func(w *wire) { raw(w, xhttp2.FramePing, 0, 1, 8) }, "PROTOCOL_ERROR"},
		{"SETTINGS length", func(w *wire) { raw(w, xhttp2.FrameSettings, 0, 0, 5) }, "FRAME_SIZE_ERROR"},
		{"SETTINGS ack with payload", func(w *wire) { raw(w, xhttp2.FrameSettings, xhttp2.FlagSettingsAck, 0, 6) }, "FRAME_SIZE_ERROR"},
		{"SETTINGS push", func(w *wire) { must(w.t, w.fr.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingEnablePush, Val: 2})) }, "PROTOCOL_ERROR"},
		{"SETTINGS window", func(w *wire) {
			must(w.t, w.fr.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 1 << 31}))
		}, "FLOW_CONTROL_ERROR"},
		{"SETTINGS frame size", func(w *wire) {
			must(w.t, w.fr.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingMaxFrameSize, Val: 1}))
		}, "PROTOCOL_ERROR"},
		{"SETTINGS overflow a stream", func(w *wire) {
			w.get(1, false)
			must(w.t, w.fr.WriteWindowUpdate(1, 1<<31-1-65535))
			must(w.t, w.fr.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 65536}))
		}, "FLOW_CONTROL_ERROR"},
		{"PUSH_PROMISE", func(w *wire) {
			w.get(1, false)
			must(w.t, w.fr.WritePushPromise(xhttp2.PushPromiseParam{StreamID: 1, PromiseID: 2, EndHeaders: true}))
		}, "PROTOCOL_ERROR"},
		{"lone CONTINUATION", func(w *wire) { must(w.t, w.fr.WriteContinuation(1, true, nil)) }, "PROTOCOL_ERROR"},
		{"HPACK index", func(w *wire) {
			must(w.t, w.fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0xfe}, EndHeaders: true}))
		}, "COMPRESSION_ERROR"},
		{"HPACK truncated", func(w *wire) {
			must(w.t, w.fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x40, 5, 'a'}, EndHeaders: true}))
		}, "COMPRESSION_ERROR"},
		{"connection window", func(w *wire) {
			for id := uint32(1); id < 2*10; id += 2 {
				w.get(id, false)
				for range 8 {
					raw(w, xhttp2.FrameData, 0, id, 16<<10)
				}
			}
		}, "FLOW_CONTROL_ERROR"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWire(t, Config{Role: Server})
			tt.do(w)
			_, err := w.c.Feed(w.in.Bytes())
			if diff := cmp.Diff([]string{tt.want}, describe(nil, err)); diff != "" {
				t.Fatal(diff)
			}
			frames := w.frames()
			if last := frames[len(frames)-1]; last[:6] != "GOAWAY" {
				t.Errorf("last frame is %q, want GOAWAY", last)
			}
		})
	}
}
