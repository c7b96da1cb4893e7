package serve

import (
	"bytes"
	"strconv"

	engine "github.com/underlane/underlane/pkg/l7proxy/http2"
	"github.com/underlane/underlane/pkg/rawio"
	"github.com/underlane/underlane/test/bench/work"
)

var (
	body   = bytes.Repeat([]byte("underlane benchmark, one line 32"), work.Body/32)
	answer = append([]byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: "+strconv.Itoa(len(body))+"\r\n\r\n"), body...)
	last   = append([]byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: "+strconv.Itoa(len(body))+"\r\n\r\n"), body...)
	ends   = []byte("\r\n\r\n")
	closes = []byte("connection: close")
)

// http1 answers requests without a body. It answers those that come together with
// one write.
func http1(c *rawio.Conn) {
	buf := make([]byte, 16<<10)
	var out []byte
	have := 0
	for {
		n, err := c.Read(buf[have:])
		if err != nil {
			return
		}
		rest := buf[:have+n]
		out = out[:0]
		over := false
		for !over {
			end := bytes.Index(rest, ends)
			if end < 0 {
				break
			}
			if over = bytes.Contains(bytes.ToLower(rest[:end]), closes); over {
				out = append(out, last...)
			} else {
				out = append(out, answer...)
			}
			rest = rest[end+len(ends):]
		}
		have = copy(buf, rest)
		if _, err := c.Write(out); err != nil || over || have == len(buf) {
			return
		}
	}
}

// Prefix is the prefix of a gRPC message of work.Message bytes: the compression
// flag (off) and the length.
var Prefix = []byte{0, 0, 0, work.Message >> 8, work.Message & 0xff}

var (
	message = append(bytes.Clone(Prefix), bytes.Repeat([]byte{'u'}, work.Message)...)

	heads = map[work.Mode][]engine.Field{
		work.HTTP2:  {{Name: ":status", Value: "200"}, {Name: "content-type", Value: "text/plain"}, {Name: "content-length", Value: strconv.Itoa(len(body))}},
		work.GRPC:   {{Name: ":status", Value: "200"}, {Name: "content-type", Value: "application/grpc"}},
		work.Stream: {{Name: ":status", Value: "200"}, {Name: "content-type", Value: "application/grpc"}},
	}
	trailers = []engine.Field{{Name: "grpc-status", Value: "0"}}
)

// http2 answers GET requests with the body and unary calls with one message. It
// echoes the messages of streams.
func http2(c *rawio.Conn, mode work.Mode) {
	s := &h2{Conn: engine.New(engine.Config{Role: engine.Server, MaxStreams: 1024}), mode: mode, waiting: map[uint32][]byte{}}
	buf := make([]byte, 64<<10)
	var spare []byte
	for {
		for s.OutputLen() > 0 {
			spare = s.TakeOutput(spare)
			if _, err := c.Write(spare); err != nil || s.Err() != nil {
				return
			}
			if s.OutputOpened() {
				s.resume()
			}
		}
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		events, _ := s.Feed(buf[:n]) // on an error the connection ends after its output is sent
		for i := range events {
			s.event(&events[i])
		}
	}
}

type h2 struct {
	*engine.Conn
	mode    work.Mode
	waiting map[uint32][]byte // data that waits for flow control, by stream
}

func (s *h2) event(ev *engine.Event) {
	switch ev.Kind {
	case engine.EventHeaders:
		if s.mode == work.Stream || ev.EndStream {
			_ = s.WriteHeaders(ev.Stream, heads[s.mode], false)
		}
		if ev.EndStream {
			s.finish(ev.Stream)
		}
	case engine.EventData:
		s.Consume(ev.Stream, len(ev.Payload))
		if s.mode == work.Stream {
			s.send(ev.Stream, ev.Payload)
		}
		if ev.EndStream {
			if s.mode != work.Stream {
				_ = s.WriteHeaders(ev.Stream, heads[s.mode], false)
			}
			s.finish(ev.Stream)
		}
	case engine.EventReset:
		delete(s.waiting, ev.Stream)
	case engine.EventWindowOpened:
		s.resume()
	}
}

func (s *h2) finish(id uint32) {
	switch s.mode {
	case work.HTTP2:
		s.send(id, body)
	case work.GRPC:
		s.send(id, message)
	default:
		if len(s.waiting[id]) == 0 {
			_ = s.WriteTrailers(id, trailers)
		}
	}
}

// send sends p after the data that already waits, and then what belongs after p.
func (s *h2) send(id uint32, p []byte) {
	waiting, wait := s.waiting[id]
	if wait {
		if s.mode == work.Stream {
			s.waiting[id] = append(waiting, p...)
		}
		return
	}
	s.push(id, p)
}

func (s *h2) push(id uint32, p []byte) {
	n, err := s.WriteData(id, p, s.mode == work.HTTP2)
	switch {
	case err != nil: // the stream is gone
		delete(s.waiting, id)
	case n < len(p):
		s.waiting[id] = bytes.Clone(p[n:])
	default:
		delete(s.waiting, id)
		if s.mode == work.GRPC {
			_ = s.WriteTrailers(id, trailers)
		}
	}
}

func (s *h2) resume() {
	for id, p := range s.waiting {
		s.push(id, p)
	}
}
