package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// h2Pieces is the state of an HTTP/2 connection that writes its frames one by
// one.
type h2Pieces struct {
	framer *http2.Framer
	out    bytes.Buffer // what the framer wrote
	enc    *hpack.Encoder
	block  bytes.Buffer
	next   uint32            // the client's next stream
	paths  map[uint32]string // used by the server: paths of requests that have not ended
}

func (c *pieceConn) http2() *h2Pieces {
	if c.h2 == nil {
		h := &h2Pieces{next: 1}
		h.framer = http2.NewFramer(&h.out, c.r)
		h.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
		h.enc = hpack.NewEncoder(&h.block)
		c.h2 = h
	}
	return c.h2
}

// take returns what the framer has written since the last call.
func (h *h2Pieces) take() string {
	defer h.out.Reset()
	return h.out.String()
}

func (h *h2Pieces) headers(id uint32, end bool, fields ...string) string {
	h.block.Reset()
	for i := 0; i < len(fields); i += 2 {
		_ = h.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	_ = h.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: h.block.Bytes(), EndHeaders: true, EndStream: end})
	return h.take()
}

func (h *h2Pieces) data(id uint32, text string, end bool) string {
	_ = h.framer.WriteData(id, end, []byte(text))
	return h.take()
}

// owed returns the reply to a frame that belongs to the connection, not to a
// stream.
func (h *h2Pieces) owed(f http2.Frame) string {
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if !f.IsAck() {
			_ = h.framer.WriteSettingsAck()
		}
	case *http2.PingFrame:
		if !f.IsAck() {
			_ = h.framer.WritePing(true, f.Data)
		}
	}
	return h.take()
}

// http2Case makes a request on a new stream: without a body, or with a body whose
// frames are written separately.
func http2Case(path string, body bool) func(*pieceConn) error {
	return func(c *pieceConn) error {
		var begin string
		if c.h2 == nil {
			_ = c.http2().framer.WriteSettings()
			begin = http2.ClientPreface + c.h2.take()
		}
		h := c.h2
		id := h.next
		h.next += 2
		method := "GET"
		if body {
			method = "POST"
		}
		parts := []string{begin + h.headers(id, !body, ":method", method, ":scheme", "http", ":path", path, ":authority", "x")}
		if body {
			parts = append(parts, h.data(id, "hel", false), h.data(id, "lo", true))
		}
		if err := c.write(parts...); err != nil {
			return err
		}
		var got strings.Builder
		for {
			f, err := h.framer.ReadFrame()
			if err != nil {
				return err
			}
			if owed := h.owed(f); owed != "" {
				if err := c.write(owed); err != nil {
					return err
				}
			}
			switch f := f.(type) {
			case *http2.RSTStreamFrame, *http2.GoAwayFrame:
				return fmt.Errorf("%v", f)
			case *http2.DataFrame:
				got.Write(f.Data())
				if f.StreamEnded() {
					if got.String() != "hello, world\n" {
						return fmt.Errorf("%q", got.String())
					}
					return nil
				}
			}
		}
	}
}

// serveHTTP2Pieces reads a frame and answers the request if the frame ends it.
func serveHTTP2Pieces(c *pieceConn) error {
	if c.h2 == nil {
		if _, err := io.CopyN(io.Discard, c.r, int64(len(http2.ClientPreface))); err != nil {
			return err
		}
		_ = c.http2().framer.WriteSettings()
		if err := c.write(c.h2.take()); err != nil {
			return err
		}
		c.h2.paths = map[uint32]string{}
	}
	h := c.h2
	f, err := h.framer.ReadFrame()
	if err != nil {
		return err
	}
	if owed := h.owed(f); owed != "" {
		return c.write(owed)
	}
	id := f.Header().StreamID
	ended := false
	switch f := f.(type) {
	case *http2.MetaHeadersFrame:
		h.paths[id] = f.PseudoValue("path")
		ended = f.StreamEnded()
	case *http2.DataFrame:
		ended = f.StreamEnded()
	}
	if !ended {
		return nil
	}
	path := h.paths[id]
	delete(h.paths, id)
	parts := []string{h.headers(id, false, ":status", "200"), h.data(id, "hello, ", false), h.data(id, "world\n", true)}
	if path == "/pieces" {
		return c.write(parts...)
	}
	return c.write(strings.Join(parts, ""))
}
