package observe

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	engine "github.com/underlane/underlane/pkg/l7proxy/http2"
)

// peer writes the frames of one side of HTTP/2.
type peer struct {
	out    bytes.Buffer
	framer *xhttp2.Framer
	block  bytes.Buffer
	enc    *hpack.Encoder
}

func newPeer(side int) *peer {
	p := new(peer)
	p.framer = xhttp2.NewFramer(&p.out, nil)
	p.framer.AllowIllegalWrites = true
	p.enc = hpack.NewEncoder(&p.block)
	if side == client {
		p.out.WriteString(xhttp2.ClientPreface)
	}
	_ = p.framer.WriteSettings()
	return p
}

func (p *peer) fields(kv ...string) []byte {
	p.block.Reset()
	for i := 0; i < len(kv); i += 2 {
		_ = p.enc.WriteField(hpack.HeaderField{Name: kv[i], Value: kv[i+1]})
	}
	return p.block.Bytes()
}

func (p *peer) headers(stream uint32, end bool, kv ...string) {
	_ = p.framer.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: stream, BlockFragment: p.fields(kv...), EndHeaders: true, EndStream: end})
}

func (p *peer) call(stream uint32, path string) {
	p.headers(stream, false, ":method", "POST", ":scheme", "http", ":path", path, ":authority", "shop", "content-type", "application/grpc", "te", "trailers")
}

func (p *peer) take() string {
	defer p.out.Reset()
	return p.out.String()
}

// talk is a conversation of HTTP/2, in turns.
type talk struct {
	*conn
	w     *Watcher
	peers [2]*peer
	cut   func(n int) int // how many bytes of n go into the next segment; nil: all
	raw   bool            // all bytes are copied
	frame [2]uint32       // as the kernel's walk, relative
	keep  [2]bool
}

func newTalk(w *Watcher, c *conn) *talk {
	return &talk{conn: c, w: w, peers: [2]*peer{newPeer(client), newPeer(server)}}
}

// flush sends what the sides have written, copied as the kernel does: all but large DATA.
func (k *talk) flush(sides ...int) {
	for _, side := range sides {
		for text := k.peers[side].take(); text != ""; {
			n := len(text)
			if k.cut != nil {
				n = k.cut(n)
			}
			parts := []*Segment{nil}
			if k.raw {
				parts[0] = k.segment(side, text[:n])
			} else {
				parts = k.parts(side, text[:n])
			}
			for _, s := range parts {
				k.take(k.w, s)
			}
			text = text[n:]
		}
	}
}

// parts walks frames as bpf/include/frames.h.
func (k *talk) parts(side int, text string) (list []*Segment) {
	k.copied = len(text)
	whole := k.segment(side, text)
	at := whole.Seq - k.first[side]
	start, cur := uint32(0), k.frame[side]-at
	if at == 0 && side == client {
		cur = uint32(len(xhttp2.ClientPreface))
	}
	if k.frame[side] > at && !k.keep[side] {
		start = min(cur, whole.Length)
	}
	add := func(from, stop, through uint32) {
		s := *whole
		s.Seq, s.Length, s.Data, s.Tail = whole.Seq+from, through-from, whole.Data[from:stop], nil
		list = append(list, &s)
	}
	for cur < whole.Length {
		if whole.Length-cur < frameHeader {
			panic("the model has whole headers")
		}
		h := text[cur:]
		length := uint32(h[0])<<16 | uint32(h[1])<<8 | uint32(h[2])
		cur += frameHeader
		if k.keep[side] = h[3] != 0 || length <= 128; !k.keep[side] {
			add(start, cur, min(cur+length, whole.Length))
			start = min(cur+length, whole.Length)
		}
		cur += length
	}
	if start < whole.Length {
		add(start, whole.Length, whole.Length)
	}
	k.frame[side] = at + cur
	return list
}

func TestHTTP2(t *testing.T) {
	long := bytes.Repeat([]byte("x"), 10000)
	for name, row := range map[string]struct {
		say  func(k *talk, c, s *peer)
		want []string
	}{
		"a call": {func(k *talk, c, s *peer) {
			c.call(1, "/pkg.Svc/Get")
			_ = c.framer.WriteData(1, true, []byte("12345"))
			k.flush(client)
			s.headers(1, false, ":status", "200", "content-type", "application/grpc")
			_ = s.framer.WriteData(1, false, long)
			k.flush(server)
			s.headers(1, true, "grpc-status", "5")
			k.flush(server)
		}, []string{"> POST shop/pkg.Svc/Get", "< 200 /pkg.Svc/Get after 1ms", ". /pkg.Svc/Get sent 5 got 10000 in 2ms grpc 5"}},
		"streams": {func(k *talk, c, s *peer) {
			c.headers(1, true, ":method", "GET", ":scheme", "http", ":path", "/1", ":authority", "h")
			c.headers(3, true, ":method", "GET", ":scheme", "http", ":path", "/3", ":authority", "h")
			k.flush(client)
			s.headers(3, true, ":status", "204")
			s.headers(1, false, ":status", "200")
			k.flush(server)
			_ = s.framer.WriteDataPadded(1, true, []byte("abc"), []byte("pp"))
			k.flush(server)
		}, []string{"> GET h/1", "> GET h/3", "< 204 /3 after 1ms", ". /3 sent 0 got 0 in 1ms", "< 200 /1 after 1ms", ". /1 sent 0 got 6 in 2ms"}},
		"only trailers": {func(k *talk, c, s *peer) {
			c.call(1, "/a")
			k.flush(client)
			s.headers(1, true, ":status", "200", "grpc-status", "12")
			k.flush(server)
		}, []string{"> POST shop/a", "< 200 /a after 1ms", ". /a sent 0 got 0 in 1ms grpc 12"}},
		"grpc-web with a status in its head": {func(k *talk, c, s *peer) {
			c.headers(1, true, ":method", "POST", ":scheme", "http", ":path", "/a", ":authority", "shop", "content-type", "application/grpc-web")
			k.flush(client)
			s.headers(1, true, ":status", "200", "content-type", "application/grpc-web", "grpc-status", "5")
			k.flush(server)
		}, []string{"> POST shop/a", "< 200 /a after 1ms", ". /a sent 0 got 0 in 1ms"}},
		"reset by the client": {func(k *talk, c, s *peer) {
			c.call(1, "/a")
			k.flush(client)
			_ = c.framer.WriteRSTStream(1, xhttp2.ErrCodeCancel)
			k.flush(client)
		}, []string{"> POST shop/a", ". /a sent 0 got 0 in 1ms reset 8"}},
		"refused": {func(k *talk, c, s *peer) {
			c.call(1, "/a")
			c.call(3, "/b")
			k.flush(client)
			_ = s.framer.WriteGoAway(1, xhttp2.ErrCodeNo, []byte("bye"))
			s.headers(1, true, ":status", "200", "grpc-status", "0")
			k.flush(server)
		}, []string{"> POST shop/a", "> POST shop/b", ". /b sent 0 got 0 in 1ms reset 7", "< 200 /a after 1ms", ". /a sent 0 got 0 in 1ms grpc 0"}},
		"interim": {func(k *talk, c, s *peer) {
			c.call(1, "/a")
			k.flush(client)
			s.headers(1, false, ":status", "103", "link", "x")
			s.headers(1, true, ":status", "200", "grpc-status", "0")
			k.flush(server)
		}, []string{"> POST shop/a", "< 200 /a after 1ms", ". /a sent 0 got 0 in 1ms grpc 0"}},
		"continued": {func(k *talk, c, s *peer) {
			b := c.fields(":method", "GET", ":scheme", "http", ":path", "/cont", ":authority", "h", "x", strings.Repeat("v", 3000))
			_ = c.framer.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: b[:5], EndStream: true, PadLength: 9, Priority: xhttp2.PriorityParam{Weight: 3}})
			_ = c.framer.WriteContinuation(1, false, b[5:90])
			_ = c.framer.WriteContinuation(1, true, b[90:])
			k.flush(client)
		}, []string{"> GET h/cont"}},
		"pushed": {func(k *talk, c, s *peer) {
			c.call(1, "/a")
			k.flush(client)
			_ = s.framer.WritePushPromise(xhttp2.PushPromiseParam{StreamID: 1, PromiseID: 2, BlockFragment: s.fields(":path", "/pushed"), EndHeaders: true})
			s.headers(2, true, ":status", "200")
			s.headers(1, true, ":status", "200", "grpc-status", "0")
			k.flush(server)
		}, []string{"> POST shop/a", "< 200 /a after 1ms", ". /a sent 0 got 0 in 1ms grpc 0"}},
		"cut": {func(k *talk, c, s *peer) {
			c.call(1, "/a")
			k.flush(client)
			end := k.segment(server, "")
			end.Fin = true
			k.take(k.w, end)
		}, []string{"> POST shop/a", ". /a sent 0 got 0 in 1ms reset 0"}},
	} {
		for _, mode := range []string{"client", "server", "server first", "in pieces"} {
			t.Run(name+"/"+mode, func(t *testing.T) {
				w, c, told := rig()
				c.server = mode == "server"
				k := newTalk(w, c)
				if k.raw = mode == "in pieces"; k.raw {
					r := rand.New(rand.NewPCG(7, 7))
					k.cut = func(n int) int { return 1 + r.IntN(min(n, 30)) }
				}
				if mode == "server first" {
					k.flush(server)
				}
				k.flush(client, server)
				row.say(k, k.peers[client], k.peers[server])
				want := slices.Clone(row.want)
				if k.raw { // the times are others
					for _, list := range [][]string{want, told.list} {
						for i := range list {
							list[i] = times.ReplaceAllString(list[i], "")
						}
					}
				}
				told.want(t, want...)
				if n := w.Counts(); n.Gaps+n.Opaque+n.Refused+n.Dropped != 0 {
					t.Errorf("counts %+v", n)
				}
			})
		}
	}
}

var times = regexp.MustCompile(` (after|in) \d+ms`)

// TestHTTP2Lost: what is missed costs the calls that are under way, and the names that the
// table had. Later calls are seen, and what they name anew.
// The status of grpc-web is in the body: it is no call of gRPC.
func TestHTTP2GRPC(t *testing.T) {
	for contentType, want := range map[string]bool{
		"application/grpc": true, "application/grpc+proto": true, "application/grpc-web+proto": false, "text/html": false,
	} {
		var b block
		b.field(engine.Field{Name: "content-type", Value: contentType})
		if b.grpc != want {
			t.Errorf("%s: gRPC %v, want %v", contentType, b.grpc, want)
		}
	}
}

func TestHTTP2Lost(t *testing.T) {
	w, c, told := rig()
	k := newTalk(w, c)
	p, s := k.peers[client], k.peers[server]
	k.flush(client, server)
	p.call(1, "/one")
	k.flush(client)
	s.headers(1, false, ":status", "200", "content-type", "application/grpc", "x", "1")
	k.flush(server)
	told.want(t, "> POST shop/one", "< 200 /one after 1ms")
	for _, side := range []int{client, server} { // is lost
		k.peers[client].call(3, "/two")
		k.peers[server].headers(1, true, "grpc-status", "0")
		text := k.peers[side].take()
		k.segment(side, text)
		k.frame[side] += uint32(len(text))
		k.peers[1-side].take()
	}
	for i := range uint32(maxPending + 1) {
		p.call(5+2*i, "/one")
		s.headers(5+2*i, true, ":status", "200", "content-type", "application/grpc", "grpc-status", fmt.Sprint(i))
		k.flush(client, server)
	}
	told.list = nil
	p.call(101, "/new")
	p.call(103, "/new")
	p.call(105, "/one")
	k.flush(client)
	s.headers(101, true, ":status", "200", "content-type", "application/grpc", "grpc-status", "99")
	s.headers(103, true, ":status", "200", "content-type", "application/grpc", "grpc-status", "99")
	k.flush(server)
	told.want(t, "> POST /new ?", "> POST /new ?", "> POST  ?", "< 200 /new after 1ms", ". /new sent 0 got 0 in 1ms", "< 200 /new after 1ms", ". /new sent 0 got 0 in 1ms")
	if n := w.Counts(); n.Gaps != 2 || n.Dropped == 0 || n.Opaque != 0 {
		t.Errorf("counts %+v", n)
	}
}

// TestHTTP2Joined: of a connection that was open, calls are seen from the next frame on, also
// if it is not known which side is the server.
func TestHTTP2Joined(t *testing.T) {
	for _, wrong := range []bool{false, true} {
		w, c, told := rig()
		c.joined = true
		k := newTalk(w, c)
		p, s := k.peers[client], k.peers[server]
		p.call(1, "/one")
		s.headers(1, true, ":status", "200", "grpc-status", "0")
		for side, text := range []string{p.take(), s.take()} {
			k.segment(side, text)
			k.frame[side] += uint32(len(text))
		}
		c.server = wrong
		defer func() { c.server = false }()
		first := k.segment(server, "\x00\x00\x00\x04\x01\x00\x00\x00\x00")
		c.server = false
		first.Sent = wrong
		k.frame[server] += 9
		o := &Opening{Pod: 9, Joined: true, Server: wrong}
		c.opened = true
		w.Open(c.flow, 0, o)
		if wish, changed := w.Take(&Segment{Flow: c.flow, Sent: false, Seq: first.Seq, Length: 9, Data: first.Data}); !changed || !wish.Framed[0] || wish.Frame[0] != first.Seq+9 {
			t.Errorf("got the wish %+v, want that frames are walked", wish)
		}
		p.call(3, "/one")
		k.flush(client)
		s.headers(3, false, ":status", "200", "content-type", "application/grpc")
		s.headers(3, true, "grpc-status", "7")
		k.flush(server)
		told.want(t, "> POST  ?", "< 200  after 1ms", ".  sent 0 got 0 in 1ms")
	}
}

// TestHTTP2Walk: where the kernel cannot walk, it is told where the next frame begins.
func TestHTTP2Walk(t *testing.T) {
	w, c, _ := rig()
	k := newTalk(w, c)
	k.flush(client, server)
	k.peers[client].call(1, "/")
	_ = k.peers[client].framer.WriteData(1, false, make([]byte, 5000))
	text := k.peers[client].take()
	k.copied = len(text)
	s := k.segment(client, text[:len(text)-1000])
	s.Unwalked = true
	wish, changed := k.take(w, s)
	if !changed || !wish.Framed[1] || wish.Framed[0] || wish.Frame[1] != s.Seq+uint32(len(text)) {
		t.Errorf("got %+v, %v; want a frame at %d", wish, changed, s.Seq+uint32(len(text)))
	}
}

// TestHTTP2Hostile: what no peer may send, and what is over a limit, costs its own connection.
func TestHTTP2Hostile(t *testing.T) {
	settings := "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	for name, text := range map[string]string{
		"CONTINUATION first":        "\x00\x00\x01\x09\x04\x00\x00\x00\x01\x82",
		"DATA within a block":       "\x00\x00\x01\x01\x00\x00\x00\x00\x01\x82" + "\x00\x00\x01\x00\x00\x00\x00\x00\x01x",
		"no such index":             "\x00\x00\x02\x01\x04\x00\x00\x00\x01\xff\x7f",
		"padding without a length":  "\x00\x00\x01\x01\x0c\x00\x00\x00\x01\xff",
		"HEADERS on stream 0":       "\x00\x00\x01\x01\x04\x00\x00\x00\x00\x82",
		"a string that is too long": "\x00\xff\xff\x01\x00\x00\x00\x00\x01" + "\x00\x01a\x7f\xff\xff\x7f",
	} {
		w, c, told := rig()
		c.copied = 1 << 20
		c.say(w, client, xhttp2.ClientPreface+settings)
		c.say(w, client, text)
		told.want(t)
		if n := w.Counts(); name != "padding without a length" && n.Gaps != 1 || n.Opaque != 0 {
			t.Errorf("%s: counts %+v, want a gap", name, n)
		}
		// It is read again.
		p := newPeer(client)
		p.take()
		p.headers(9, true, ":method", "GET", ":path", "/again", ":authority", "x")
		c.say(w, client, p.take())
		if len(told.list) == 0 || !strings.HasPrefix(told.list[len(told.list)-1], "> GET x/again") {
			t.Errorf("%s: got %q", name, told.list)
		}
	}
}

// TestHTTP2Limits: streams, names and tables count for the pod.
func TestHTTP2Limits(t *testing.T) {
	w := New(Limits{Flows: 100, PodFlows: 100, Bytes: 1 << 20, PodBytes: 100 << 10}, func(Kind, *Request) {})
	for flow := range uint64(20) {
		c := newConn()
		c.flow, c.copied = flow, 1<<20
		k := newTalk(w, c)
		for i := range uint32(2 * maxStreams) {
			k.peers[client].headers(2*i+1, false, ":method", "GET", ":path", fmt.Sprintf("/%d/%s", i, strings.Repeat("x", 100)), ":authority", "x")
			k.flush(client)
		}
	}
	n := w.Counts()
	if n.Bytes < 50<<10 || n.Bytes > 110<<10 || n.Refused == 0 {
		t.Errorf("counts %+v, want what is kept near the limit", n)
	}
	w.Leave(9)
	if n := w.Counts(); n.Bytes != 0 || n.Flows != 0 {
		t.Errorf("counts %+v after the pod has left", n)
	}
}

// FuzzHTTP2: whatever is sent after the preface, in whatever order, the Watcher stays within
// its limits, each request begins once, and ends once at most, and all is forgotten.
func FuzzHTTP2(f *testing.F) {
	c, s := newPeer(client), newPeer(server)
	c.call(1, "/a")
	_ = c.framer.WriteData(1, true, []byte("hello"))
	s.headers(1, false, ":status", "200")
	_ = s.framer.WriteData(1, false, []byte("world"))
	s.headers(1, true, "grpc-status", "0")
	f.Add([]byte(c.take()[len(xhttp2.ClientPreface):]), []byte(s.take()), uint64(1))
	_ = s.framer.WriteGoAway(1, xhttp2.ErrCodeNo, nil)
	_ = s.framer.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingHeaderTableSize, Val: 1 << 30})
	_ = c.framer.WriteRSTStream(1, xhttp2.ErrCodeCancel)
	f.Add([]byte(c.take()), []byte(s.take()), uint64(2))
	f.Add([]byte("\x00\x00\x01\x09\x04\x00\x00\x00\x01\x82"), []byte("\x00\x00\x02\x01\x0c\x00\x00\x00\x01\xff\xff"), uint64(3))
	f.Fuzz(func(t *testing.T, requests, responses []byte, seed uint64) {
		const limit = 64 << 10
		r := rand.New(rand.NewPCG(seed, 3))
		seen := map[uint64]Kind{}
		w := New(Limits{Flows: 2, PodFlows: 2, Bytes: limit, PodBytes: limit}, func(k Kind, q *Request) {
			if before := seen[q.ID]; before >= k || before == 0 && k != Began {
				t.Errorf("request %d: %d after %d", q.ID, k, before)
			}
			if k == Ended && q.Ended < q.Began {
				t.Errorf("request %d ends before it begins: %+v", q.ID, q)
			}
			seen[q.ID] = k
		})
		c := newConn()
		c.joined = r.IntN(4) == 0
		rest := [2]string{xhttp2.ClientPreface + string(requests), string(responses)}
		for rest[0] != "" || rest[1] != "" {
			side := r.IntN(2)
			if rest[side] == "" {
				side = 1 - side
			}
			n := 1 + r.IntN(min(len(rest[side]), 200))
			c.copied = 200
			if r.IntN(8) == 0 {
				c.copied = 1 + r.IntN(20)
			}
			s := c.segment(side, rest[side][:n])
			rest[side] = rest[side][n:]
			switch r.IntN(20) {
			case 0:
				continue // lost
			case 1:
				s.Length += uint32(r.IntN(100000))
			case 2:
				s.Fin = true
			case 3:
				s.Unwalked = true
			}
			c.take(w, s)
			if n := w.Counts(); n.Flows > 2 || n.Bytes > 2*limit {
				t.Fatalf("kept %+v", n)
			}
		}
		w.Leave(c.pod)
		if n := w.Counts(); n.Flows != 0 || n.Bytes != 0 {
			t.Errorf("kept %+v", n)
		}
	})
}
