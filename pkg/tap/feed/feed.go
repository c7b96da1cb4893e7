// Package feed writes taps to HTTP responses, as JSON lines or as protobuf messages.
package feed

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protodelim"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/tap/render"
	"github.com/underlane/underlane/pkg/tap/wire"
)

// Writer writes batches of events to one caller, and an empty batch when there were none
// for idleAfter. Its methods may be called concurrently.
type Writer struct {
	w      http.ResponseWriter
	flush  *http.ResponseController
	media  string
	encode func(*bytes.Buffer, *agentv1.TapEvents) error

	mu      sync.Mutex
	buf     bytes.Buffer
	idle    *time.Timer // nil until started
	stopped bool
}

// idleAfter is the longest time that a stream stays silent. Proxies on the way
// close streams that are silent for longer.
const idleAfter = 20 * time.Second

// New returns a Writer to w. accept is the caller's Accept header: with "protobuf" in it
// the media type is tapv1alpha1.MediaProtobuf, and tapv1alpha1.MediaJSON otherwise.
func New(w http.ResponseWriter, accept string) *Writer {
	s := &Writer{w: w, flush: http.NewResponseController(w), media: tapv1alpha1.MediaJSON, encode: encodeJSON}
	if strings.Contains(accept, "protobuf") {
		s.media, s.encode = tapv1alpha1.MediaProtobuf, encodeProtobuf
	}
	return s
}

// Start sends the response's header.
func (s *Writer) Start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.w.Header().Set("Content-Type", s.media)
	s.w.Header().Set("Cache-Control", "no-store")
	s.w.WriteHeader(http.StatusOK)
	s.idle = time.AfterFunc(idleAfter, func() { _ = s.Send(&agentv1.TapEvents{}) })
	return s.flush.Flush()
}

// Send writes a batch and flushes it. The error means that the caller is gone, or that
// Close was called.
func (s *Writer) Send(batch *agentv1.TapEvents) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return http.ErrServerClosed
	}
	s.idle.Reset(idleAfter)
	s.buf.Reset()
	if err := s.encode(&s.buf, batch); err != nil {
		return err
	}
	if _, err := s.w.Write(s.buf.Bytes()); err != nil {
		return err
	}
	return s.flush.Flush()
}

// Close stops the timer, so that it does not write to a response that has ended.
func (s *Writer) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	if s.idle != nil {
		s.idle.Stop()
	}
}

func encodeProtobuf(b *bytes.Buffer, batch *agentv1.TapEvents) error {
	_, err := protodelim.MarshalTo(b, batch)
	return err
}

// encodeJSON writes one object per line. An empty batch is an empty line.
func encodeJSON(b *bytes.Buffer, batch *agentv1.TapEvents) error {
	for _, m := range batch.GetEvents() {
		e := wire.FromProto(m)
		line, err := render.JSON(&e)
		if err != nil {
			return err
		}
		b.Write(append(line, '\n'))
	}
	out := json.NewEncoder(b)
	for _, text := range batch.GetWarnings() {
		if err := out.Encode(map[string]string{"warning": text}); err != nil {
			return err
		}
	}
	if n := batch.GetLost(); n > 0 {
		return out.Encode(map[string]uint64{"lostEvents": n})
	}
	if b.Len() == 0 {
		b.WriteByte('\n')
	}
	return nil
}
