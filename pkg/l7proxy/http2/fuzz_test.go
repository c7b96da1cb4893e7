package http2

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	xhttp2 "golang.org/x/net/http2"
)

// FuzzFeed: for all bytes the engine does not panic and its output stays bounded, and the
// events do not depend on how the bytes are split.
func FuzzFeed(f *testing.F) {
	for _, seed := range seeds(f) {
		f.Add(seed, uint64(1), true)
		f.Add(seed, uint64(2), false)
	}
	f.Fuzz(func(t *testing.T, p []byte, split uint64, server bool) {
		cfg := Config{Role: Client, StreamWindow: 4 << 10, MaxStreams: 8, MaxHeaderList: 1 << 10}
		if server {
			cfg.Role = Server
			p = append([]byte(xhttp2.ClientPreface), p...)
		}
		whole := replay(t, cfg, p, func() int { return len(p) })
		rnd := rand.New(rand.NewPCG(split, 0))
		parts := replay(t, cfg, p, func() int { return 1 + rnd.IntN(40) })
		if diff := cmp.Diff(whole, parts); diff != "" {
			t.Errorf("events depend on the split (-whole +parts):\n%s", diff)
		}
	})
}

func replay(t *testing.T, cfg Config, p []byte, size func() int) (events []string) {
	c := New(cfg)
	if cfg.Role == Client {
		for range 3 {
			_, err := c.OpenStream(fieldList(getFields...), false)
			must(t, err)
		}
	}
	c.TakeOutput(nil)
	for len(p) > 0 {
		n := min(len(p), size())
		ev, err := c.Feed(p[:n])
		events = append(events, describe(ev, err)...)
		p = p[n:]
		if c.OutputLen() > maxControlOut+64<<10 {
			t.Fatalf("%d bytes of output for %d of input", c.OutputLen(), n)
		}
		if c.Streams() > max(3, cfg.MaxStreams) {
			t.Fatalf("%d streams", c.Streams())
		}
		if err != nil {
			break
		}
	}
	return events
}

// seeds are conversations in the server's and the client's direction.
func seeds(tb testing.TB) (out [][]byte) {
	build := func(do func(w *wire)) {
		var t testing.T
		w := rawWire(&t, Config{})
		must(tb, w.fr.WriteSettings())
		do(w)
		out = append(out, bytes.Clone(w.in.Bytes()))
	}
	build(func(w *wire) {
		w.get(1, false, "content-length", "3")
		must(tb, w.fr.WriteDataPadded(1, true, []byte("abc"), make([]byte, 5)))
		w.get(3, true)
		must(tb, w.fr.WriteRSTStream(3, Cancel))
	})
	build(func(w *wire) {
		w.headers(1, false, ":status", "200")
		must(tb, w.fr.WriteData(1, false, []byte(strings.Repeat("x", 100))))
		w.headers(1, true, "grpc-status", "0")
		must(tb, w.fr.WriteGoAway(3, NoError, nil))
	})
	build(func(w *wire) {
		w.headers(1, false, ":status", "200", "x", " \ta ")
		w.headers(1, true, "grpc-status", " 0", "grpc-message", "\t")
	})
	build(func(w *wire) {
		w.get(1, false, "x", " ", "content-length", "0 ")
		w.headers(1, true, "y", "a\t")
		block := w.block(getFields...)
		must(tb, w.fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 3, BlockFragment: block[:2]}))
		must(tb, w.fr.WriteContinuation(3, true, block[2:]))
		must(tb, w.fr.WritePing(false, [8]byte{1}))
		must(tb, w.fr.WriteWindowUpdate(0, 100))
		must(tb, w.fr.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 10}))
		must(tb, w.fr.WriteWindowUpdate(1, 0))
	})
	return out
}

// TestAllocs: in steady state a request allocates at most twice (once for the Framer's
// HEADERS frame).
func TestAllocs(t *testing.T) {
	w := newWire(t, Config{Role: Server})
	response := fieldList(":status", "200", "content-type", "application/grpc")
	trailers := fieldList("grpc-status", "0")
	body := make([]byte, 1000)
	var spare []byte
	id := uint32(1)
	request := func() {
		w.in.Reset()
		w.get(id, false, "content-type", "application/grpc", "te", "trailers")
		must(t, w.fr.WriteData(id, true, body))
	}
	exchange := func() {
		events, err := w.c.Feed(w.in.Bytes())
		if err != nil || len(events) != 2 {
			t.Fatal(events, err)
		}
		_ = w.c.WriteHeaders(id, response, false)
		n, _ := w.c.WriteData(id, events[1].Payload, false)
		w.c.Consume(id, n)
		_ = w.c.WriteTrailers(id, trailers)
		spare = w.c.TakeOutput(spare)
		_, err = w.c.Feed(windowUpdate)
		must(t, err)
	}
	for range 100 {
		request()
		exchange()
		id += 2
	}
	// AllocsPerRun counts the peer's work too, so this is measured first.
	peerOnly := testing.AllocsPerRun(200, request)
	both := testing.AllocsPerRun(200, func() { request(); exchange(); id += 2 })
	if got := both - peerOnly; got > 2 {
		t.Errorf("%v allocations per request, want at most 2", got)
	}
}

var windowUpdate = func() []byte {
	var b bytes.Buffer
	_ = xhttp2.NewFramer(&b, nil).WriteWindowUpdate(0, 1000)
	return b.Bytes()
}()
