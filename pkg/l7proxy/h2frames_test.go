package l7proxy

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"testing"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// frames is an HTTP/2 peer that a test plays frame by frame, on an engine that
// is not ours.
type frames struct {
	t     testing.TB
	nc    net.Conn
	fr    *xhttp2.Framer
	block bytes.Buffer
	enc   *hpack.Encoder
}

// dialFrames is a client of the proxy, its preface and settings sent.
func dialFrames(t testing.TB, addr string, settings ...xhttp2.Setting) *frames {
	t.Helper()
	return clientFrames(t, dialTCP(t, addr).TCPConn, settings...)
}

func clientFrames(t testing.TB, nc net.Conn, settings ...xhttp2.Setting) *frames {
	t.Helper()
	f := newFrames(t, nc, nc)
	_, err := io.WriteString(nc, xhttp2.ClientPreface)
	f.must(err)
	f.must(f.fr.WriteSettings(settings...))
	return f
}

// serveFrames is a server that c leads to: it reads the preface and sends its
// settings.
func serveFrames(c *client, settings ...xhttp2.Setting) *frames {
	c.t.Helper()
	return serverFrames(c.t, c.TCPConn, c.r, settings...)
}

func serverFrames(t testing.TB, nc net.Conn, r io.Reader, settings ...xhttp2.Setting) *frames {
	t.Helper()
	f := newFrames(t, nc, r)
	preface := make([]byte, len(xhttp2.ClientPreface))
	_, err := io.ReadFull(r, preface)
	f.must(err)
	if string(preface) != xhttp2.ClientPreface {
		t.Fatalf("preface %q", preface)
	}
	f.must(f.fr.WriteSettings(settings...))
	return f
}

func newFrames(t testing.TB, nc net.Conn, r io.Reader) *frames {
	f := &frames{t: t, nc: nc, fr: xhttp2.NewFramer(nc, r)}
	f.fr.AllowIllegalWrites = true
	f.fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	f.enc = hpack.NewEncoder(&f.block)
	return f
}

func (f *frames) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// headers sends a field section, given as names and values in turn.
func (f *frames) headers(id uint32, end bool, fields ...string) {
	f.t.Helper()
	f.must(f.fr.WriteHeaders(xhttp2.HeadersFrameParam{
		StreamID: id, BlockFragment: f.encode(fields...), EndStream: end, EndHeaders: true,
	}))
}

func (f *frames) encode(fields ...string) []byte {
	f.block.Reset()
	for i := 0; i < len(fields); i += 2 {
		_ = f.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return bytes.Clone(f.block.Bytes())
}

func (f *frames) data(id uint32, end bool, p string) {
	f.t.Helper()
	f.must(f.fr.WriteData(id, end, []byte(p)))
}

// next describes the next frame that is not about windows, liveness or
// settings, whose values it gives if they are not an acknowledgement.
func (f *frames) next() string {
	f.t.Helper()
	for {
		got, err := f.read()
		if err != nil {
			f.t.Fatalf("next frame: %v", err)
		}
		if got != "" {
			return got
		}
	}
}

func (f *frames) read() (string, error) {
	fr, err := f.fr.ReadFrame()
	if err != nil {
		return "", err
	}
	end := func(ended bool) string {
		if ended {
			return " END"
		}
		return ""
	}
	switch fr := fr.(type) {
	case *xhttp2.SettingsFrame:
		if !fr.IsAck() {
			return "", f.fr.WriteSettingsAck()
		}
	case *xhttp2.PingFrame:
		if !fr.IsAck() {
			return "", f.fr.WritePing(true, fr.Data)
		}
	case *xhttp2.MetaHeadersFrame:
		s := fmt.Sprintf("HEADERS %d", fr.StreamID)
		for _, hf := range fr.Fields {
			s += " " + hf.Name + "=" + hf.Value
		}
		return s + end(fr.StreamEnded()), nil
	case *xhttp2.DataFrame:
		return fmt.Sprintf("DATA %d %q", fr.StreamID, fr.Data()) + end(fr.StreamEnded()), nil
	case *xhttp2.RSTStreamFrame:
		return fmt.Sprintf("RST_STREAM %d %v", fr.StreamID, fr.ErrCode), nil
	case *xhttp2.GoAwayFrame:
		return fmt.Sprintf("GOAWAY %v", fr.ErrCode), nil
	}
	return "", nil
}

// want compares the next frames.
func (f *frames) want(lines ...string) {
	f.t.Helper()
	for _, want := range lines {
		if got := f.next(); got != want {
			f.t.Fatalf("got  %s\nwant %s", got, want)
		}
	}
}
