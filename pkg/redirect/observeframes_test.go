package redirect

import (
	"bytes"
	"io"
	"net/netip"
	"testing"

	"golang.org/x/net/http2"

	"github.com/underlane/underlane/pkg/mesh"
)

// pipe is a connection of an observed pod, of which each write is a segment.
type pipe struct {
	*eye
	conn     io.Writer
	accepted io.ReadWriteCloser
	sent     int // bytes
}

func newPipe(t *testing.T, joined bool) *pipe {
	t.Helper()
	r := newRig(t, mesh.Settings{})
	o := newEye(t, r)
	if !joined {
		if err := o.Observe(r.pod.Cookie(), All); err != nil {
			t.Fatal(err)
		}
	}
	l := listen(t, r.peer, peer4, 8080)
	conn := mustDial(t, r.pod, netip.AddrPortFrom(peer4, 8080))
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = accepted.Close() })
	if joined {
		if err := o.Observe(r.pod.Cookie(), All); err != nil {
			t.Fatal(err)
		}
	}
	return &pipe{eye: o, conn: conn, accepted: accepted}
}

// send sends bytes, and returns what was seen of them.
func (p *pipe) send(text []byte) []Observation {
	p.t.Helper()
	if _, err := p.conn.Write(text); err != nil {
		p.t.Fatal(err)
	}
	if _, err := io.ReadFull(p.accepted, make([]byte, len(text))); err != nil {
		p.t.Fatal(err)
	}
	p.sent += len(text)
	return p.segments()
}

func framed(write func(*http2.Framer)) []byte {
	var out bytes.Buffer
	f := http2.NewFramer(&out, nil)
	f.AllowIllegalWrites = true
	write(f)
	return out.Bytes()
}

// known puts what was copied into its place, with '.' for what was not.
func known(t *testing.T, list []Observation, first uint32, total int) []byte {
	t.Helper()
	out := bytes.Repeat([]byte{'.'}, total)
	at := uint32(0)
	for _, s := range list {
		if from := s.Seq - first; from < at {
			t.Errorf("bytes from %d on are reported twice", from)
		} else {
			copy(out[from+s.Skipped:], s.Data)
			at = from + s.Length
		}
	}
	return out
}

// TestObserverFrames: of HTTP/2 everything is copied but the payload of large DATA frames,
// wherever segments end.
func TestObserverFrames(t *testing.T) {
	head, large := bytes.Repeat([]byte("h"), 3000), bytes.Repeat([]byte("D"), 5000)
	stream := append([]byte(http2.ClientPreface), framed(func(f *http2.Framer) {
		_ = f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head, EndHeaders: true})
		_ = f.WriteData(1, false, large)
		_ = f.WriteData(1, false, []byte("small"))
		_ = f.WriteData(1, true, large)
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: head[:20], EndHeaders: true})
		_ = f.WriteData(3, true, large)
	})...)
	want := bytes.ReplaceAll(stream, large, bytes.Repeat([]byte{'.'}, len(large)))
	for name, size := range map[string]func(at int) int{
		"at once":           func(int) int { return len(stream) },
		"pieces of 1000":    func(int) int { return 1000 },
		"pieces of 4":       func(at int) int { return map[bool]int{true: len(http2.ClientPreface), false: 4}[at == 0] },
		"pieces of 61":      func(int) int { return 61 },
		"ends of the heads": func(at int) int { return map[bool]int{true: 24 + 15 + 9 + 3000 + 5, false: 5004}[at == 0] },
	} {
		t.Run(name, func(t *testing.T) {
			p := newPipe(t, false)
			var list []Observation
			for rest := stream; len(rest) > 0; {
				n := min(len(rest), size(p.sent))
				list = append(list, p.send(rest[:n])...)
				rest = rest[n:]
			}
			if len(list) == 0 {
				t.Fatal("nothing was seen")
			}
			for _, s := range list {
				if s.Unwalked {
					t.Errorf("the kernel has lost its way at %d", s.Seq)
				}
			}
			got := known(t, list, p.openings[list[0].Flow].First[1], len(stream))
			if !bytes.Equal(got, want) {
				for i := range got {
					if got[i] != want[i] {
						t.Fatalf("from %d on got %.40q, want %.40q", i, got[i:], want[i:])
					}
				}
			}
		})
	}
}

// TestObserverFramesTold: of a connection that was open already, frames are walked from where
// the agent says; and more frames than are walked in a segment are copied as they are.
func TestObserverFramesTold(t *testing.T) {
	p := newPipe(t, true)
	ping := framed(func(f *http2.Framer) { _ = f.WritePing(false, [8]byte{1}) })
	first := p.send(ping)
	if len(first) != 1 || !bytes.Equal(first[0].Data, ping) || !p.openings[first[0].Flow].Joined {
		t.Fatalf("got %+v, want the first segment after the pod is observed", first)
	}
	if n := p.openings[first[0].Flow]; n.Server {
		t.Errorf("the pod counts as the server at port %d of a connection to port %d", n.Local.Port(), n.Remote.Port())
	}
	wish := func(w Wish) {
		if err := p.Want(first[0].Flow, w); err != nil {
			t.Fatal(err)
		}
	}
	seq := first[0].Seq + uint32(len(ping))
	wish(Wish{Frame: [2]uint32{1: seq}, Framed: [2]bool{1: true}})
	large := framed(func(f *http2.Framer) { _ = f.WriteData(1, false, make([]byte, 4000)) })
	if got := p.send(large); len(got) != 1 || len(got[0].Data) != 9 || got[0].Length != uint32(len(large)) || got[0].Unwalked {
		t.Fatalf("got %+v, want 9 bytes of a large frame", got)
	}
	many := framed(func(f *http2.Framer) {
		for range 50 {
			_ = f.WriteData(1, false, make([]byte, 200))
		}
	})
	got := p.send(many)
	if last := got[len(got)-1]; !last.Unwalked {
		t.Errorf("got %+v, want that the walk ends", last)
	}
	var total uint32
	for _, s := range got {
		if total += s.Length; s.Unwalked && s.Length != uint32(len(s.Data)) {
			t.Errorf("of a part that is not walked %d bytes of %d are copied", len(s.Data), s.Length)
		}
	}
	if total != uint32(len(many)) {
		t.Errorf("parts have %d bytes, want %d", total, len(many))
	}
	// It goes on once the agent says where.
	if got := p.send(large); len(got) != 4 || !got[0].Unwalked {
		t.Errorf("got %d parts, want the segment as it is", len(got))
	}
	wish(Wish{Frame: [2]uint32{1: first[0].Seq + uint32(p.sent)}, Framed: [2]bool{1: true}})
	if got := p.send(large); len(got) != 1 || got[0].Unwalked {
		t.Errorf("got %+v, want 9 bytes of a large frame", got)
	}
}
