package script

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

func h2verbs() map[string]func(*end, *step) error {
	return map[string]func(*end, *step) error{
		"h2": (*end).h2, "open": (*end).open, "accept": (*end).accept, "answer": (*end).answer,
		"data": (*end).dataStep, "trailers": (*end).trailers, "empties": (*end).empties, "pour": (*end).pour,
		"head": (*end).head, "body": (*end).body, "got": (*end).got, "stall": (*end).stall,
		"rst": (*end).rst, "goaway": (*end).goaway, "ended": (*end).ended,
		"many": (*end).many, "serve": (*end).serve,
	}
}

// option finds name=value among the words.
func (s *step) option(name string) (string, bool) {
	for _, a := range s.args {
		if v, ok := strings.CutPrefix(a.text, name+"="); ok && !a.quoted {
			return v, true
		}
	}
	return "", false
}

func (s *step) has(word string) bool {
	return slices.ContainsFunc(s.args, func(a arg) bool { return a.text == word && !a.quoted })
}

func (e *end) h2(s *step) error {
	var settings []http2.Setting
	for name, id := range map[string]http2.SettingID{"streams": http2.SettingMaxConcurrentStreams, "window": http2.SettingInitialWindowSize} {
		if v, ok := s.option(name); ok {
			n, err := strconv.ParseUint(v, 10, 32)
			if err != nil {
				return err
			}
			settings = append(settings, http2.Setting{ID: id, Val: uint32(n)})
		}
	}
	server := e.job.order.Role == "server"
	h, err := newH2(e.conn, server, settings)
	if err == nil {
		e.conn.h2 = h
		if !h.wait(e.deadline(), func() bool { return h.settled || h.err != nil }) || !h.settled {
			err = fmt.Errorf("no settings: %w", h.err)
		}
	}
	if err != nil {
		e.note("h2: %s", how(err))
		return errEnded
	}
	return nil
}

// named finds the stream that a step is about.
func (e *end) named(s *step) (*h2, *stream, error) {
	h := e.conn.h2
	if h == nil {
		return nil, nil, fmt.Errorf("%s before h2", s.verb)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if st := h.names[s.word(0)]; st != nil {
		return h, st, nil
	}
	return nil, nil, fmt.Errorf("%s: there is no stream %q", s.verb, s.word(0))
}

// request opens a stream when the peer allows another, and sends the head of a
// request. It gives no stream if there is no room, or no connection.
func (h *h2) request(method, path string, rest []arg, deadline time.Time) (*stream, error) {
	h.opening.Lock()
	defer h.opening.Unlock()
	var st *stream
	h.wait(deadline, func() bool {
		if h.err != nil || h.goaway != "" {
			return true
		}
		open := 0
		for _, s := range h.streams {
			if !s.over() && !s.closed {
				open++
			}
		}
		if open >= h.maxStreams {
			return false
		}
		st = &stream{id: h.nextID, window: h.initial}
		h.nextID += 2
		h.streams[st.id] = st
		return true
	})
	if st == nil {
		return nil, nil
	}
	pseudo := []hpack.HeaderField{{Name: ":method", Value: method}}
	if method == "CONNECT" {
		pseudo = append(pseudo, hpack.HeaderField{Name: ":authority", Value: path})
	} else {
		pseudo = append(pseudo, hpack.HeaderField{Name: ":scheme", Value: "http"},
			hpack.HeaderField{Name: ":authority", Value: "x"}, hpack.HeaderField{Name: ":path", Value: path})
	}
	return st, h.head(st.id, pseudo, rest)
}

func (e *end) open(s *step) error {
	h := e.conn.h2
	if h == nil || len(s.args) < 3 {
		return fmt.Errorf("open wants h2 first, and NAME METHOD PATH")
	}
	st, err := h.request(s.word(1), s.word(2), s.args[3:], e.deadline())
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case st != nil:
		h.names[s.word(0)] = st
		return e.sent(s, err)
	case h.err != nil || h.goaway != "":
		e.note("open %s: %s", s.word(0), h.ending())
	default:
		e.note("open %s: too many streams", s.word(0))
	}
	return errEnded
}

// sent notes a frame that did not go.
func (e *end) sent(s *step, err error) error {
	if err != nil {
		e.note("%s %s: %s", s.verb, s.word(0), how(err))
		return errEnded
	}
	return nil
}

func (e *end) accept(s *step) error {
	h := e.conn.h2
	if h == nil {
		return fmt.Errorf("accept before h2")
	}
	var st *stream
	h.wait(e.deadline(), func() bool {
		if len(h.incoming) > 0 {
			st, h.incoming = h.incoming[0], h.incoming[1:]
			h.names[s.word(0)] = st
		}
		return st != nil || h.err != nil
	})
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case st != nil && len(st.heads) > 0:
		e.note("%s: request %s", s.word(0), st.heads[0])
	case h.err != nil:
		e.note("accept %s: %s", s.word(0), h.ending())
		return errEnded
	default:
		e.note("accept %s: time-out", s.word(0))
		return errEnded
	}
	return nil
}

func (e *end) answer(s *step) error {
	h, st, err := e.named(s)
	if err != nil {
		return err
	}
	return e.sent(s, h.head(st.id, []hpack.HeaderField{{Name: ":status", Value: s.word(1)}}, s.args[2:]))
}

// pour sends DATA in the background.
func (e *end) pour(s *step) error {
	h, st, err := e.named(s)
	if err != nil {
		return err
	}
	n, err := s.number(1)
	go h.data(st, []byte(pattern(n)), false, e.deadline())
	return err
}

func (e *end) trailers(s *step) error {
	h, st, err := e.named(s)
	if err != nil {
		return err
	}
	return e.sent(s, h.head(st.id, nil, append(s.args[1:len(s.args):len(s.args)], arg{text: "end"})))
}

func (e *end) dataStep(s *step) error {
	h, st, err := e.named(s)
	if err != nil {
		return err
	}
	if why := h.data(st, []byte(s.text()), s.has("end"), e.deadline()); why != "" {
		e.note("data %s: %s", s.word(0), why)
	}
	return nil
}

func (e *end) empties(s *step) error {
	h, st, err := e.named(s)
	if err != nil {
		return err
	}
	n, err := s.number(1)
	for i := 0; i < n && err == nil; i++ {
		err = h.write(func(f *http2.Framer) error { return f.WriteData(st.id, false, nil) })
	}
	return e.sent(s, err)
}

func (e *end) stall(s *step) error {
	h, st, err := e.named(s)
	if err == nil {
		h.update(func() { st.stalled = true })
	}
	return err
}

var codes = map[string]http2.ErrCode{
	"": http2.ErrCodeNo, "NO_ERROR": http2.ErrCodeNo, "CANCEL": http2.ErrCodeCancel, "REFUSED_STREAM": http2.ErrCodeRefusedStream,
	"INTERNAL_ERROR": http2.ErrCodeInternal, "ENHANCE_YOUR_CALM": http2.ErrCodeEnhanceYourCalm, "PROTOCOL_ERROR": http2.ErrCodeProtocol,
}

func (e *end) rst(s *step) error {
	h, st, err := e.named(s)
	if err != nil {
		return err
	}
	return e.sent(s, h.reset(st, codes[s.word(1)]))
}

func (h *h2) reset(st *stream, code http2.ErrCode) error {
	h.update(func() { st.closed = true })
	return h.write(func(f *http2.Framer) error { return f.WriteRSTStream(st.id, code) })
}

// goaway says that the stream last, or none, is the last that is done.
func (e *end) goaway(s *step) error {
	h := e.conn.h2
	if h == nil {
		return fmt.Errorf("goaway before h2")
	}
	code, ok := codes[s.word(0)]
	if !ok {
		code = http2.ErrCodeNo
	}
	last := uint32(0)
	if name, ok := s.option("last"); ok {
		h.mu.Lock()
		if st := h.names[name]; st != nil {
			last = st.id
		}
		h.mu.Unlock()
	}
	return e.sent(s, h.write(func(f *http2.Framer) error { return f.WriteGoAway(last, code, nil) }))
}
