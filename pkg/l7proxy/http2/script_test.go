package http2

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// wire is the peer of a Conn under test: a Framer that writes the Conn's input and reads
// its output.
type wire struct {
	t    *testing.T
	c    *Conn
	in   bytes.Buffer // to the Conn
	out  bytes.Buffer // from the Conn
	fr   *xhttp2.Framer
	hbuf bytes.Buffer
	enc  *hpack.Encoder
	dec  *hpack.Decoder
}

// newWire returns a Conn and its peer after the exchange of the prefaces.
func newWire(t *testing.T, cfg Config, settings ...xhttp2.Setting) *wire {
	t.Helper()
	w := rawWire(t, cfg)
	if cfg.Role == Server {
		w.in.WriteString(xhttp2.ClientPreface)
	} else if got := string(w.out.Next(len(xhttp2.ClientPreface))); got != xhttp2.ClientPreface {
		t.Fatalf("client preface = %q", got)
	}
	must(t, w.fr.WriteSettings(settings...))
	w.feed("SETTINGS")
	w.frames() // its SETTINGS, WINDOW_UPDATE and SETTINGS ack
	return w
}

func rawWire(t *testing.T, cfg Config) *wire {
	w := &wire{t: t, c: New(cfg), dec: hpack.NewDecoder(4096, nil)}
	w.fr = xhttp2.NewFramer(&w.in, &w.out)
	w.fr.AllowIllegalWrites = true
	w.fr.AllowIllegalReads = true
	w.enc = hpack.NewEncoder(&w.hbuf)
	w.out.Write(w.c.TakeOutput(nil))
	return w
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (w *wire) block(fields ...string) []byte {
	w.hbuf.Reset()
	for i := 0; i+1 < len(fields); i += 2 {
		must(w.t, w.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}))
	}
	return bytes.Clone(w.hbuf.Bytes())
}

// headers writes one HEADERS frame.
func (w *wire) headers(id uint32, end bool, fields ...string) {
	must(w.t, w.fr.WriteHeaders(xhttp2.HeadersFrameParam{
		StreamID: id, BlockFragment: w.block(fields...), EndStream: end, EndHeaders: true,
	}))
}

var getFields = []string{":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a"}

func (w *wire) get(id uint32, end bool, more ...string) {
	w.headers(id, end, append(append([]string(nil), getFields...), more...)...)
}

// feed passes what was written to the Conn and compares the events, one per line. The last
// line may be the connection error.
func (w *wire) feed(want ...string) {
	w.t.Helper()
	events, err := w.c.Feed(w.in.Bytes())
	got := describe(events, err)
	w.in.Reset()
	w.out.Write(w.c.TakeOutput(nil))
	if g, x := strings.Join(got, "\n"), strings.Join(want, "\n"); g != x {
		w.t.Fatalf("events:\n%s\nwant:\n%s", g, x)
	}
}

func describe(events []Event, err error) (lines []string) {
	for i := range events {
		lines = append(lines, describeEvent(&events[i]))
	}
	var ce *ConnError
	if errors.As(err, &ce) {
		lines = append(lines, ce.Code.String())
	} else if err != nil {
		lines = append(lines, err.Error())
	}
	return lines
}

func describeEvent(e *Event) string {
	s := e.Kind.String()
	if e.Stream != 0 {
		s += fmt.Sprintf(" %d", e.Stream)
	}
	flag := func(on bool, name string) {
		if on {
			s += " " + name
		}
	}
	switch e.Kind {
	case EventHeaders:
		for _, f := range e.Fields {
			s += " " + f.Name + "=" + f.Value
			flag(f.Sensitive, "(sensitive)")
		}
		flag(e.Trailers, "TRAILERS")
		flag(e.TooLarge, "TOOLARGE")
	case EventMalformed:
		s += ": " + e.Reason
	case EventData:
		s += fmt.Sprintf(" %q", e.Payload)
	case EventReset:
		s += " " + e.Code.String()
		flag(e.Local, "LOCAL")
		flag(e.Retryable, "RETRYABLE")
		flag(e.GoingAway, "GOINGAWAY")
		flag(e.TooLarge, "TOOLARGE")
	case EventGoAway:
		s += fmt.Sprintf(" %d %v", e.LastStream, e.Code)
	}
	flag(e.EndStream, "END")
	return s
}

// frames describes all frames that the Conn has sent.
func (w *wire) frames() (lines []string) {
	w.t.Helper()
	w.out.Write(w.c.TakeOutput(nil))
	for w.out.Len() > 0 {
		f, err := w.fr.ReadFrame()
		must(w.t, err)
		lines = append(lines, w.describeFrame(f))
	}
	return lines
}

func (w *wire) describeFrame(f xhttp2.Frame) string {
	h := f.Header()
	s := fmt.Sprintf("%v %d", h.Type, h.StreamID)
	switch f := f.(type) {
	case *xhttp2.HeadersFrame:
		s += w.decode(f.HeaderBlockFragment(), f.HeadersEnded())
		if f.StreamEnded() {
			s += " END"
		}
	case *xhttp2.ContinuationFrame:
		s += w.decode(f.HeaderBlockFragment(), f.HeadersEnded())
	case *xhttp2.DataFrame:
		s += fmt.Sprintf(" len=%d", len(f.Data()))
		if f.StreamEnded() {
			s += " END"
		}
	case *xhttp2.RSTStreamFrame:
		s += " " + f.ErrCode.String()
	case *xhttp2.GoAwayFrame:
		s += fmt.Sprintf(" %d %v", f.LastStreamID, f.ErrCode)
	case *xhttp2.WindowUpdateFrame:
		s += fmt.Sprintf(" %d", f.Increment)
	case *xhttp2.PingFrame:
		s += fmt.Sprintf(" ack=%v", f.IsAck())
	case *xhttp2.SettingsFrame:
		s += fmt.Sprintf(" ack=%v", f.IsAck())
	}
	return s
}

func (w *wire) decode(p []byte, last bool) (s string) {
	w.dec.SetEmitFunc(func(f hpack.HeaderField) { s += " " + f.Name + "=" + f.Value })
	_, err := w.dec.Write(p)
	must(w.t, err)
	if !last {
		s += " …"
	} else {
		must(w.t, w.dec.Close())
	}
	return s
}

// sent compares the frames that the Conn has sent.
func (w *wire) sent(want ...string) {
	w.t.Helper()
	if g, x := strings.Join(w.frames(), "\n"), strings.Join(want, "\n"); g != x {
		w.t.Fatalf("frames:\n%s\nwant:\n%s", g, x)
	}
}

const getEvent = ":method=GET :scheme=http :path=/ :authority=a"

func fieldList(kv ...string) (out []Field) {
	for i := 0; i+1 < len(kv); i += 2 {
		out = append(out, Field{Name: kv[i], Value: kv[i+1]})
	}
	return out
}
