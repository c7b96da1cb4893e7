package http2

import (
	"bytes"
	"encoding/binary"
	"runtime"
	"strings"
	"testing"

	xhttp2 "golang.org/x/net/http2"
)

// flood calls write n times and feeds what it wrote, as a driver does. If the peer reads,
// the output is taken at intervals, else never. It returns the code of the error that
// ended the connection, and the largest length of the output.
func flood(t *testing.T, cfg Config, reads bool, n int, write func(w *wire, i int)) (code string, output int) {
	t.Helper()
	w := newWire(t, cfg)
	for i := range n {
		write(w, i)
		_, err := w.c.Feed(w.in.Bytes())
		w.in.Reset()
		output = max(output, w.c.OutputLen())
		if err != nil {
			return describe(nil, err)[0], output
		}
		if reads && i%10 == 9 {
			w.c.TakeOutput(nil)
		}
	}
	return "", output
}

// TestFloodsWithoutReading: frames that require replies must not fill memory if the peer
// does not read the replies (CVE-2019-9512, CVE-2019-9515).
func TestFloodsWithoutReading(t *testing.T) {
	for name, write := range map[string]func(w *wire, i int){
		"PING":     func(w *wire, _ int) { must(t, w.fr.WritePing(false, [8]byte{})) },
		"SETTINGS": func(w *wire, _ int) { must(t, w.fr.WriteSettings()) },
		"SETTINGS that change every stream": func(w *wire, i int) {
			must(t, w.fr.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: uint32(i % 2)}))
		},
		"PING between requests": func(w *wire, i int) {
			must(t, w.fr.WritePing(false, [8]byte{}))
			if i%100 == 0 {
				w.get(uint32(2*i+1), true)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			code, output := flood(t, Config{Role: Server, MaxStreams: 1 << 20}, false, 100_000, write)
			if code != "ENHANCE_YOUR_CALM" || output > maxControlOut+1024 {
				t.Errorf("ended with %q and up to %d bytes of output, want ENHANCE_YOUR_CALM and at most %d", code, output, maxControlOut+1024)
			}
			if code, _ := flood(t, Config{Role: Server, MaxStreams: 1 << 20}, true, 20_000, write); code != "" {
				t.Errorf("a peer that reads: the connection ends with %s, want no end", code)
			}
		})
	}
}

// TestFloodsOfResets: streams that cost this end work, and their peer nothing.
func TestFloodsOfResets(t *testing.T) {
	open := func(w *wire, i int) uint32 {
		w.get(uint32(2*i+1), false)
		return uint32(2*i + 1)
	}
	for name, write := range map[string]func(w *wire, i int){
		// Made you reset (CVE-2025-8671): the peer makes this end reset the stream. What the
		// peer itself resets (CVE-2023-44487) is the driver's to limit.
		"window update of 0":      func(w *wire, i int) { must(t, w.fr.WriteWindowUpdate(open(w, i), 0)) },
		"window update too large": func(w *wire, i int) { must(t, w.fr.WriteWindowUpdate(open(w, i), 1<<31-1)) },
		"DATA after the end": func(w *wire, i int) {
			w.get(uint32(2*i+1), true)
			must(t, w.fr.WriteData(uint32(2*i+1), false, nil))
		},
		"priority of itself": func(w *wire, i int) {
			id := open(w, i)
			must(t, w.fr.WritePriority(id, xhttp2.PriorityParam{StreamDep: id}))
		},
		"trailers without an end": func(w *wire, i int) { w.headers(open(w, i), false, "a", "b") },
	} {
		t.Run(name, func(t *testing.T) {
			if code, _ := flood(t, Config{Role: Server}, true, 1000, write); code != "ENHANCE_YOUR_CALM" {
				t.Errorf("ended with %q, want ENHANCE_YOUR_CALM", code)
			}
		})
	}
}

// TestContinuationFlood: an endless field section (CVE-2024-27316), with few or many
// bytes, ends the connection, and little of it is stored.
func TestContinuationFlood(t *testing.T) {
	literal := func(n int) []byte { // RFC 7541 §6.2.2, with a name and a value that are in no table
		return append(binary.AppendUvarint([]byte{0, 1, 'a', 0x7f}, uint64(n-0x7f)), bytes.Repeat([]byte{'x'}, n)...)
	}
	for name, fragment := range map[string][]byte{
		"empty":       nil,
		"tiny fields": {0x82},
		"large field": literal(8 << 10),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWire(t, Config{Role: Server})
			must(t, w.fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: fragment}))
			for i := 0; ; i++ {
				must(t, w.fr.WriteContinuation(1, false, fragment))
				events, err := w.c.Feed(w.in.Bytes())
				w.in.Reset()
				if len(events) > 0 || i > maxContinuations {
					t.Fatalf("%q after %d frames", describe(events, err), i)
				}
				if err != nil {
					if got := describe(nil, err)[0]; got != "ENHANCE_YOUR_CALM" {
						t.Errorf("got %q, want ENHANCE_YOUR_CALM", got)
					}
					return
				}
			}
		})
	}
}

// TestHPACKBomb: many bytes that stand for 4 KiB each. The list is cut at its limit, and
// nothing beyond it is copied.
func TestHPACKBomb(t *testing.T) {
	w := newWire(t, Config{Role: Server, MaxHeaderCount: 1 << 20})
	big := strings.Repeat("x", 4000)
	head := w.block(append(append([]string(nil), getFields...), "a", big)...)  // enters the table
	bomb := append(head, bytes.Repeat([]byte{0x80 | 62}, 16<<10-len(head))...) // 64 MiB
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	must(t, w.fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: bomb, EndStream: true, EndHeaders: true}))
	events, err := w.c.Feed(w.in.Bytes())
	runtime.ReadMemStats(&after)
	must(t, err)
	if len(events) != 1 || !events[0].TooLarge {
		t.Fatalf("got %d events, want one that is TooLarge", len(events))
	}
	size := 0
	for _, f := range events[0].Fields {
		size += int(f.Size())
	}
	if size > DefaultMaxHeaderList {
		t.Errorf("got %d bytes of fields, want at most %d", size, DefaultMaxHeaderList)
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > 1<<20 {
		t.Errorf("%d bytes were allocated, want at most %d", used, 1<<20)
	}
}

// TestStalledPeer: if a peer opens no window, or one byte at a time, no bytes accumulate in
// the engine: WriteData does not take them.
func TestStalledPeer(t *testing.T) {
	w := newWire(t, Config{Role: Server}, xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 0})
	body := make([]byte, 1<<20)
	for id := uint32(1); id < 2*DefaultMaxStreams; id += 2 {
		w.get(id, true)
	}
	_, err := w.c.Feed(w.in.Bytes())
	must(t, err)
	w.in.Reset()
	for id := uint32(1); id < 2*DefaultMaxStreams; id += 2 {
		must(t, w.c.WriteHeaders(id, fieldList(":status", "200"), false))
		if n, err := w.c.WriteData(id, body, true); n != 0 || err != nil {
			t.Fatalf("WriteData = %d, %v with no window, want 0, nil", n, err)
		}
	}
	if n := w.c.OutputLen(); n > 100*DefaultMaxStreams {
		t.Errorf("got %d bytes of output, want at most %d", n, 100*DefaultMaxStreams)
	}
	w.c.TakeOutput(nil)
	for range 1000 {
		must(t, w.fr.WriteWindowUpdate(1, 1))
		w.feed("WINDOW 1")
		if n, _ := w.c.WriteData(1, body, true); n != 1 {
			t.Fatalf("WriteData = %d with a window of 1, want 1", n)
		}
		w.out.Reset()
	}
}
