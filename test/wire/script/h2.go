package script

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// h2 is a connection that speaks HTTP/2: what its peer has sent so far.
type h2 struct {
	c      *conn
	server bool

	opening sync.Mutex // streams: their ids go out in order
	writing sync.Mutex // of frames
	framer  *http2.Framer
	block   bytes.Buffer
	encoder *hpack.Encoder

	mu      sync.Mutex
	changed chan struct{} // closed and replaced with each frame
	err     error         // the end
	goaway  string        // the code of one that came
	// What the peer allows.
	settled    bool
	maxStreams int
	initial    int64
	window     int64

	streams  map[uint32]*stream
	names    map[string]*stream
	incoming []*stream // of a server, not accepted yet
	nextID   uint32
}

// stream is one stream, and what came on it.
type stream struct {
	id      uint32
	heads   []string // of requests, responses, trailers
	own     bool     // the head is one of the mesh's own
	data    []byte
	ended   bool
	rst     string // the code
	window  int64
	stalled bool // no WINDOW_UPDATE is sent
	closed  bool // by this end: RST_STREAM was sent
}

func (s *stream) over() bool { return s.ended || s.rst != "" }

// newH2 speaks the preface and the settings, and reads from then on.
func newH2(c *conn, server bool, settings []http2.Setting) (*h2, error) {
	h := &h2{
		c: c, server: server, changed: make(chan struct{}), maxStreams: 1 << 30, initial: 65535, window: 65535,
		streams: map[uint32]*stream{}, names: map[string]*stream{}, nextID: 1,
	}
	if err := c.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	r := io.MultiReader(bytes.NewReader(c.take(len(c.buf))), c.TCPConn)
	if server {
		preface := make([]byte, len(http2.ClientPreface))
		if _, err := io.ReadFull(r, preface); err != nil {
			return nil, err
		}
	} else if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		return nil, err
	}
	h.framer = http2.NewFramer(c, r)
	h.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	h.framer.SetMaxReadFrameSize(1 << 20)
	h.encoder = hpack.NewEncoder(&h.block)
	err := h.write(func(f *http2.Framer) error {
		return errors.Join(f.WriteSettings(settings...), f.WriteWindowUpdate(0, 1<<28))
	})
	go h.read()
	return h, err
}

func (h *h2) write(f func(*http2.Framer) error) error {
	h.writing.Lock()
	defer h.writing.Unlock()
	_ = h.c.SetWriteDeadline(time.Now().Add(10 * time.Second))
	return f(h.framer)
}

func (h *h2) read() {
	for {
		f, err := h.framer.ReadFrame()
		var broken http2.StreamError
		if errors.As(err, &broken) {
			h.update(func() { h.stream(broken.StreamID).rst = "malformed" })
			continue
		}
		if err != nil {
			h.update(func() { h.err = err })
			return
		}
		h.frame(f)
	}
}

// update changes what is known, and wakes who waits.
func (h *h2) update(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f()
	close(h.changed)
	h.changed = make(chan struct{})
}

// wait waits until ok, under the lock, or a time. It says whether ok.
func (h *h2) wait(deadline time.Time, ok func() bool) bool {
	limit := time.NewTimer(time.Until(deadline))
	defer limit.Stop()
	for {
		h.mu.Lock()
		done, changed := ok(), h.changed
		h.mu.Unlock()
		if done {
			return true
		}
		select {
		case <-changed:
		case <-limit.C:
			return false
		}
	}
}

// stream finds a stream, or makes what the peer has opened. Call it under the lock.
func (h *h2) stream(id uint32) *stream {
	s := h.streams[id]
	if s == nil {
		s = &stream{id: id, window: h.initial}
		h.streams[id] = s
		if h.server {
			h.incoming = append(h.incoming, s)
		}
	}
	return s
}

func (h *h2) frame(f http2.Frame) {
	id := f.Header().StreamID
	var reply func(*http2.Framer) error
	h.update(func() {
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			s := h.stream(id)
			text, own := fields(f)
			s.heads, s.own, s.ended = append(s.heads, text), s.own || own, s.ended || f.StreamEnded()
		case *http2.DataFrame:
			s := h.stream(id)
			s.data, s.ended = append(s.data, f.Data()...), s.ended || f.StreamEnded()
			if n := f.Header().Length; n > 0 {
				open := !s.stalled && !s.ended
				reply = func(w *http2.Framer) error {
					err := w.WriteWindowUpdate(0, n)
					if err == nil && open {
						err = w.WriteWindowUpdate(id, n)
					}
					return err
				}
			}
		case *http2.RSTStreamFrame:
			h.stream(id).rst = f.ErrCode.String()
		case *http2.SettingsFrame:
			if f.IsAck() {
				return
			}
			h.settled = true
			_ = f.ForeachSetting(func(s http2.Setting) error { h.setting(s); return nil })
			reply = (*http2.Framer).WriteSettingsAck
		case *http2.WindowUpdateFrame:
			if id == 0 {
				h.window += int64(f.Increment)
			} else if s := h.streams[id]; s != nil {
				s.window += int64(f.Increment)
			}
		case *http2.PingFrame:
			if data := f.Data; !f.IsAck() {
				reply = func(w *http2.Framer) error { return w.WritePing(true, data) }
			}
		case *http2.GoAwayFrame:
			h.goaway = f.ErrCode.String()
		}
	})
	if reply != nil {
		_ = h.write(reply) // a connection that is gone is told by reading
	}
}

func (h *h2) setting(s http2.Setting) {
	switch s.ID {
	case http2.SettingMaxConcurrentStreams:
		h.maxStreams = int(s.Val)
	case http2.SettingInitialWindowSize:
		for _, st := range h.streams {
			st.window += int64(s.Val) - h.initial
		}
		h.initial = int64(s.Val)
	}
}

// reasonField is of responses that the mesh makes itself.
const reasonField = "underlane-reason"

// fields are a head as notes show it. What is of the connection's own making is
// left out.
func fields(f *http2.MetaHeadersFrame) (text string, own bool) {
	var parts []string
	reason, status := "", ""
	for _, hf := range f.Fields {
		switch hf.Name {
		case ":scheme", ":authority":
			continue
		case ":status":
			status = hf.Value
		case reasonField:
			reason = hf.Value
		}
		if strings.HasPrefix(hf.Name, ":") {
			parts = append(parts, hf.Value)
		} else {
			parts = append(parts, fmt.Sprintf("%s=%q", hf.Name, hf.Value))
		}
	}
	if reason != "" {
		return fmt.Sprintf("<%s %s>", status, reason), true
	}
	return strings.Join(parts, " "), false
}

// head writes HEADERS.
func (h *h2) head(id uint32, pseudo []hpack.HeaderField, args []arg) error {
	end := false
	return h.write(func(f *http2.Framer) error {
		h.block.Reset()
		for _, p := range pseudo {
			_ = h.encoder.WriteField(p)
		}
		for _, a := range args {
			if a.text == "end" {
				end = true
				continue
			}
			k, v, _ := strings.Cut(a.text, "=")
			_ = h.encoder.WriteField(hpack.HeaderField{Name: k, Value: strings.ReplaceAll(v, "_", " ")})
		}
		return f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: h.block.Bytes(), EndStream: end, EndHeaders: true})
	})
}

// data writes DATA as the windows allow. It says why not all went.
func (h *h2) data(s *stream, b []byte, end bool, deadline time.Time) string {
	for {
		n := 0
		why := ""
		if !h.wait(deadline, func() bool {
			switch {
			case h.err != nil && !errors.Is(h.err, io.EOF): // that one may read on
				why = how(h.err)
			case s.rst != "":
				why = "rst " + s.rst
			default:
				n = int(min(h.window, s.window, 16384, int64(len(b))))
				h.window, s.window = h.window-int64(n), s.window-int64(n)
				return n > 0 || len(b) == 0
			}
			return true
		}) {
			return "no window"
		}
		if why != "" {
			return why
		}
		last := end && n == len(b)
		if err := h.write(func(f *http2.Framer) error { return f.WriteData(s.id, last, b[:n]) }); err != nil {
			return how(err)
		}
		if b = b[n:]; len(b) == 0 {
			return ""
		}
	}
}

// ending tells how the connection ended. Call it under the lock.
func (h *h2) ending() string {
	if h.goaway != "" {
		return "goaway " + h.goaway + ", " + how(h.err)
	}
	return how(h.err)
}
