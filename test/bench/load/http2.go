package load

import (
	"errors"
	"fmt"
	"sync"

	engine "github.com/underlane/underlane/pkg/l7proxy/http2"
	"github.com/underlane/underlane/pkg/rawio"
	"github.com/underlane/underlane/test/bench/serve"
	"github.com/underlane/underlane/test/bench/work"
)

// http2 is a link with a request in flight on each of its streams. In Stream mode
// the streams stay open and each message counts as a request.
type http2 struct {
	conn   *rawio.Conn
	mode   work.Mode
	fields []engine.Field

	mu      sync.Mutex
	engine  *engine.Conn
	spare   []byte
	streams map[uint32]*stream
	free    []*stream // in Stream mode: streams without a message in flight

	buf []byte
}

type stream struct {
	id   uint32
	due  int64
	got  int // bytes of the response
	bad  string
	busy bool
}

var message = append(append([]byte(nil), serve.Prefix...), make([]byte, work.Message)...)

func newHTTP2(c *rawio.Conn, o Options) (*http2, error) {
	h := &http2{
		conn: c, mode: o.Work.Mode,
		engine:  engine.New(engine.Config{Role: engine.Client, ConnWindow: 4 << 20}),
		streams: map[uint32]*stream{}, buf: make([]byte, 64<<10),
		fields: []engine.Field{
			{Name: ":method", Value: "GET"},
			{Name: ":scheme", Value: "http"},
			{Name: ":authority", Value: o.Target.String()},
			{Name: ":path", Value: "/bench/of/a/path"},
			{Name: "user-agent", Value: "underlane-bench/1"},
		},
	}
	if h.mode != work.HTTP2 {
		h.fields[0].Value = "POST"
		h.fields = append(h.fields, engine.Field{Name: "content-type", Value: "application/grpc"}, engine.Field{Name: "te", Value: "trailers"})
	}
	if h.mode == work.Stream {
		for range o.Work.Streams {
			id, err := h.engine.OpenStream(h.fields, false)
			if err != nil {
				c.Close()
				return nil, fmt.Errorf("open a stream: %w", err)
			}
			s := &stream{id: id}
			h.streams[id] = s
			h.free = append(h.free, s)
		}
	}
	return h, nil
}

func (h *http2) send(due int64) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.mode == work.Stream {
		if len(h.free) == 0 {
			return errors.New("no stream is free")
		}
		s := h.free[len(h.free)-1]
		h.free = h.free[:len(h.free)-1]
		s.due, s.busy = due, true
		return h.data(s.id, false)
	}
	id, err := h.engine.OpenStream(h.fields, h.mode == work.HTTP2)
	if err != nil {
		return fmt.Errorf("open a stream: %w", err)
	}
	h.streams[id] = &stream{id: id, due: due, bad: "no status"}
	if h.mode == work.GRPC {
		return h.data(id, true)
	}
	return nil
}

// data sends a message. All messages in flight together are smaller than the
// smallest window, so none has to wait for a window update.
func (h *http2) data(id uint32, end bool) error {
	n, err := h.engine.WriteData(id, message, end)
	if err == nil && n < len(message) {
		err = errors.New("the proxy does not give back the window")
	}
	return err
}

func (h *http2) flush() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.write()
}

func (h *http2) write() error {
	if h.engine.OutputLen() == 0 {
		return nil
	}
	h.spare = h.engine.TakeOutput(h.spare)
	_, err := h.conn.Write(h.spare)
	return err
}

func (h *http2) receive(done func(int64)) error {
	var ready []int64
	for len(ready) == 0 {
		n, err := h.conn.Read(h.buf)
		if err != nil {
			return err
		}
		h.mu.Lock()
		events, err := h.engine.Feed(h.buf[:n])
		for i := range events {
			due, ok, everr := h.event(&events[i])
			if ok {
				ready = append(ready, due)
			}
			err = errors.Join(err, everr)
		}
		if err == nil && len(ready) == 0 {
			err = h.write() // acknowledgements
		}
		h.mu.Unlock()
		if err != nil {
			return err
		}
	}
	for _, due := range ready {
		done(due)
	}
	return nil
}

// event reports whether a response is complete, and when its request was due.
func (h *http2) event(ev *engine.Event) (due int64, ok bool, err error) {
	s := h.streams[ev.Stream]
	switch ev.Kind {
	case engine.EventReset, engine.EventGoAway:
		return 0, false, fmt.Errorf("%v of stream %d with %v", ev.Kind, ev.Stream, ev.Code)
	case engine.EventHeaders:
		if s != nil {
			s.check(ev, h.mode)
		}
	case engine.EventData:
		h.engine.Consume(ev.Stream, len(ev.Payload))
		if s != nil {
			s.got += len(ev.Payload)
		}
	}
	switch {
	case s == nil:
	case h.mode == work.Stream:
		if ev.EndStream {
			return 0, false, fmt.Errorf("stream %d ended: %s", ev.Stream, s.bad)
		}
		if s.busy && s.got >= len(message) {
			s.got -= len(message)
			s.busy = false
			h.free = append(h.free, s)
			return s.due, true, nil
		}
	case ev.EndStream:
		delete(h.streams, ev.Stream)
		want := work.Body
		if h.mode == work.GRPC {
			want = len(message)
		}
		if s.bad != "" || s.got != want {
			return 0, false, fmt.Errorf("answer of %d bytes, want %d; %s", s.got, want, s.bad)
		}
		return s.due, true, nil
	}
	return 0, false, nil
}

// check checks the status. That of gRPC comes last.
func (s *stream) check(ev *engine.Event, mode work.Mode) {
	for _, f := range ev.Fields {
		switch {
		case f.Name == ":status" && f.Value != "200":
			s.bad = "status " + f.Value
			return
		case f.Name == "grpc-status" && f.Value != "0":
			s.bad = "grpc-status " + f.Value
			return
		case f.Name == ":status" && mode == work.HTTP2, f.Name == "grpc-status":
			s.bad = ""
		}
	}
}

func (h *http2) close() { h.conn.Close() }
