package wire

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"
	"golang.org/x/net/http2/hpack"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestParseFrameReadsWhatNewFrameWrites(t *testing.T) {
	for _, want := range []Segment{
		{netip.MustParseAddrPort("10.77.1.2:40000"), netip.MustParseAddrPort("10.77.2.3:8080"), []byte("hello")},
		{netip.MustParseAddrPort("[fd77:1:1::2]:40000"), netip.MustParseAddrPort("[fd77:1:2::3]:3306"), []byte("hello")},
		{netip.MustParseAddrPort("10.77.1.2:1"), netip.MustParseAddrPort("10.77.2.3:2"), nil},
	} {
		got, ok := ParseFrame(append(NewFrame(want), "padding"...))
		if !ok {
			t.Fatalf("%v: not parsed, want it parsed", want)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
			t.Errorf("segment (-want +got):\n%s", diff)
		}
	}
}

func TestParseFrameLeavesOthersAlone(t *testing.T) {
	segment := Segment{netip.MustParseAddrPort("10.77.1.2:40000"), netip.MustParseAddrPort("10.77.2.3:8080"), []byte("hello")}
	for name, change := range map[string]func(frame []byte) []byte{
		"empty":            func([]byte) []byte { return nil },
		"ARP":              func(f []byte) []byte { f[12], f[13] = 8, 6; return f },
		"UDP":              func(f []byte) []byte { f[14+9] = 17; return f },
		"later fragment":   func(f []byte) []byte { f[14+7] = 9; return f },
		"cut off":          func(f []byte) []byte { return f[:len(f)-1] },
		"short IP header":  func(f []byte) []byte { f[14] = 0x44; return f },
		"long TCP header":  func(f []byte) []byte { f[14+20+12] = 0xf0; return f },
		"short TCP header": func(f []byte) []byte { f[14+20+12] = 0x40; return f },
	} {
		if s, ok := ParseFrame(change(NewFrame(segment))); ok {
			t.Errorf("%s: parsed as %+v, want it refused", name, s)
		}
	}
}

func TestWords(t *testing.T) {
	const path = "/emojivote.v1.VotingService/VoteDoughnut"
	words := NewWords(path, ":joy:", "a")
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, name := range []string{":path", "after"} {
		if err := encoder.WriteField(hpack.HeaderField{Name: name, Value: path}); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"plain":           {[]byte("POST " + path + " HTTP/1.1"), path},
		"Huffman":         {block.Bytes(), path},
		"protobuf":        {[]byte("\x0a\x05:joy:"), ":joy:"},
		"too short a one": {[]byte("aaaa"), ""},
		"another path":    {[]byte("/emojivote.v1.VotingService/Vote100"), ""},
		"nothing":         {nil, ""},
	} {
		if got := words.In(c.data); got != c.want {
			t.Errorf("%s: found %q, want %q", name, got, c.want)
		}
	}
	if bytes.Contains(block.Bytes(), []byte("emojivote")) {
		t.Error("the header block is not Huffman-coded, want it to be: otherwise this tests nothing")
	}
}

func TestPcapRoundTrip(t *testing.T) {
	var file bytes.Buffer
	frames := [][]byte{[]byte("one"), {}, bytes.Repeat([]byte{7}, 70_000)}
	if err := WriteHeader(&file); err != nil {
		t.Fatal(err)
	}
	for _, f := range frames {
		if err := WriteFrame(&file, time.Unix(1_700_000_000, 5000), f); err != nil {
			t.Fatal(err)
		}
	}
	file.Truncate(file.Len() - 1) // the last frame of a capture may be incomplete
	if err := ReadHeader(&file); err != nil {
		t.Fatal(err)
	}
	for _, want := range frames[:2] {
		got, err := ReadFrame(&file)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
	if got, err := ReadFrame(&file); !errors.Is(err, io.EOF) {
		t.Errorf("incomplete frame: got %q, %v; want io.EOF", got, err)
	}
}

// TestCapture checks, as root, that a capture has a request on loopback and, without
// root, that the error says so.
func TestCapture(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if os.Geteuid() != 0 {
		if err := Capture(ctx, io.Discard, "lo"); err == nil || !strings.Contains(err.Error(), "are you root?") {
			t.Errorf("without root: got %v, want an error that asks for root", err)
		}
		return
	}
	output, input := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- Capture(ctx, input, "lo") }()
	if err := ReadHeader(output); err != nil {
		t.Fatal(err)
	}
	const word = "a word that is on no other wire"
	go talk(t, word)
	for words := NewWords(word); ; {
		frame, err := ReadFrame(output)
		if err != nil {
			t.Fatal(err)
		}
		if s, ok := ParseFrame(frame); ok && words.In(s.Payload) != "" {
			break
		}
	}
	cancel()
	go io.Copy(io.Discard, output)
	if err := <-done; err != nil {
		t.Error(err)
	}
	input.Close()
	if err := Capture(t.Context(), io.Discard, "nope0"); err == nil || !strings.Contains(err.Error(), "nope0") {
		t.Errorf("an interface that does not exist: got %v, want an error with its name", err)
	}
}

// talk sends a word to itself over loopback.
func talk(t *testing.T, word string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Error(err)
		return
	}
	defer ln.Close()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	io.WriteString(conn, word)
}

func FuzzParseFrame(f *testing.F) {
	f.Add(NewFrame(Segment{netip.MustParseAddrPort("10.77.1.2:40000"), netip.MustParseAddrPort("10.77.2.3:8080"), []byte("hello")}))
	f.Add(NewFrame(Segment{netip.MustParseAddrPort("[fd77::2]:40000"), netip.MustParseAddrPort("[fd77::3]:8080"), []byte("hello")}))
	f.Fuzz(func(t *testing.T, frame []byte) {
		if s, ok := ParseFrame(frame); ok && len(s.Payload) > len(frame)-ethernetHeader-40 {
			t.Errorf("payload of %d bytes in a frame of %d, want it to fit", len(s.Payload), len(frame))
		}
	})
}

func FuzzReadFrame(f *testing.F) {
	var good bytes.Buffer
	if err := WriteFrame(&good, time.Unix(1, 0), []byte("frame")); err != nil {
		f.Fatal(err)
	}
	f.Add(good.Bytes())
	f.Add(bytes.Repeat([]byte{0xff}, pcapRecord))
	f.Fuzz(func(t *testing.T, data []byte) {
		if frame, err := ReadFrame(bytes.NewReader(data)); err == nil && len(frame) > len(data)-pcapRecord {
			t.Errorf("frame of %d bytes from %d, want it to fit", len(frame), len(data))
		}
	})
}
