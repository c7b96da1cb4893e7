package observe

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// conn makes the segments of a connection that a pod has opened.
type conn struct {
	flow   uint64
	server bool
	first  [2]uint32 // of the client, of the server
	at     [2]uint32 // bytes sent so far
	clock  time.Duration
	copied int // bytes of a segment that are known
	wish   Wish
	pod    uint64
	joined bool
	opened bool
}

func newConn() *conn {
	return &conn{flow: 1, pod: 9, first: [2]uint32{1<<32 - 20, 7000}, copied: 1024} // sequence numbers wrap
}

const (
	client = iota
	server
)

func (c *conn) segment(side int, text string) *Segment {
	c.clock += time.Millisecond
	s := &Segment{
		Flow: c.flow, Sent: (side == client) != c.server, Time: c.clock,
		Seq: c.first[side] + c.at[side], Length: uint32(len(text)),
	}
	i := 0
	if s.Sent {
		i = 1
	}
	if skip := int32(c.wish.SkipTo[i] - s.Seq); c.wish.Skip[i] && skip > 0 {
		s.Skipped = min(uint32(skip), s.Length)
	}
	s.Data = []byte(text[s.Skipped:])
	s.Data = s.Data[:min(len(s.Data), c.copied)]
	if len(text) >= 8 {
		s.Tail = []byte(text[len(text)-8:])
	}
	c.at[side] += s.Length
	return s
}

// take gives w a segment, after the flow's opening.
func (c *conn) take(w *Watcher, s *Segment) (Wish, bool) {
	if !c.opened {
		c.opened = true
		o := &Opening{
			Pod: c.pod, Server: c.server, Joined: c.joined,
			Local: netip.MustParseAddrPort("10.0.0.1:4000"), Remote: netip.MustParseAddrPort("10.0.0.2:80"),
		}
		if o.First = [2]uint32{c.first[server], c.first[client]}; c.server {
			o.First = c.first
		}
		if wish, changed := w.Open(c.flow, c.clock, o); changed {
			return wish, changed
		}
	}
	wish, changed := w.Take(s)
	if changed {
		c.wish = wish
	}
	return wish, changed
}

// told collects events as text.
type told struct{ list []string }

func (t *told) sink(k Kind, r *Request) {
	switch k {
	case Began:
		line := fmt.Sprintf("> %s %s%s", r.Method, r.Authority, r.Path)
		if r.Unknown {
			line += " ?"
		}
		t.list = append(t.list, line)
	case Answered:
		t.list = append(t.list, fmt.Sprintf("< %d %s after %v", r.Status, r.Path, r.Answered-r.Began))
	case Ended:
		line := fmt.Sprintf(". %s sent %d got %d in %v", r.Path, r.RequestBytes, r.ResponseBytes, r.Ended-r.Began)
		if r.GRPC && r.GRPCStatus >= 0 {
			line += fmt.Sprintf(" grpc %d", r.GRPCStatus)
		}
		if r.Reset {
			line += " reset"
		}
		if r.Reset && r.HTTP2 {
			line += fmt.Sprintf(" %d", r.ResetCode)
		}
		t.list = append(t.list, line)
	}
}

func (t *told) want(tt *testing.T, lines ...string) {
	tt.Helper()
	if diff := cmp.Diff(lines, t.list); diff != "" {
		tt.Errorf("events (-want +got):\n%s", diff)
	}
	t.list = nil
}

func rig() (*Watcher, *conn, *told) {
	t := new(told)
	return New(DefaultLimits, t.sink), newConn(), t
}

func (c *conn) say(w *Watcher, side int, text string) { c.take(w, c.segment(side, text)) }

const get = "GET /a?b=c HTTP/1.1\r\nHost: shop\r\n\r\n"

func TestExchanges(t *testing.T) {
	long := strings.Repeat("x", 3000)
	for name, c := range map[string]struct {
		say    []string // "> ..." from the client, "< ..." from the server
		copied int
		want   []string
	}{
		"length": {say: []string{">" + get, "<HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"}, want: []string{"> GET shop/a?b=c", "< 200 /a?b=c after 1ms", ". /a?b=c sent 0 got 5 in 1ms"}},
		"head in pieces": {
			say:  []string{">GET / HT", ">TP/1.1\r\nhost: x\r", ">\n\r\n", "<HTTP/1.1 20", "<4 No Content\r\n\r\n"},
			want: []string{"> GET x/", "< 204 / after 3ms", ". / sent 0 got 0 in 3ms"},
		},
		"bodies in pieces": {
			say:  []string{">POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3004\r\n\r\nabcd", ">" + long, "<HTTP/1.1 200 OK\r\nContent-Length: 3001\r\n\r\n", "<" + long, "<y"},
			want: []string{"> POST x/", "< 200 / after 2ms", ". / sent 3004 got 3001 in 4ms"},
		},
		"pipelined": {
			say: []string{">" + get + "HEAD /h HTTP/1.1\r\nHost: x\r\n\r\n", "<HTTP/1.1 404 No\r\nContent-Length: 1\r\n\r\nzHTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"},
			want: []string{
				"> GET shop/a?b=c", "> HEAD x/h", "< 404 /a?b=c after 1ms", ". /a?b=c sent 0 got 1 in 1ms", "< 200 /h after 1ms", ". /h sent 0 got 0 in 1ms",
			},
		},
		"interim": {
			say:  []string{">PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n", "<HTTP/1.1 100 Continue\r\n\r\n", ">ab", "<HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"},
			want: []string{"> PUT x/", "< 201 / after 3ms", ". / sent 2 got 0 in 3ms"},
		},
		"chunks": {
			say:  []string{">" + get, "<HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", "<lo\r\n", "<0\r\n\r\n"},
			want: []string{"> GET shop/a?b=c", "< 200 /a?b=c after 1ms", ". /a?b=c sent 0 got 5 in 3ms"},
		},
		"chunks, partly known": {
			say:    []string{">" + get, "<HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "<bb8\r\n" + long, "<\r\n0\r\n\r\n", ">" + get},
			copied: 64,
			want:   []string{"> GET shop/a?b=c", "< 200 /a?b=c after 1ms", ". /a?b=c sent 0 got 3012 in 3ms", "> GET shop/a?b=c"},
		},
		"until close": {
			say:  []string{">" + get, "<HTTP/1.0 200 OK\r\n\r\nhello", "<world", "<FIN"},
			want: []string{"> GET shop/a?b=c", "< 200 /a?b=c after 1ms", ". /a?b=c sent 0 got 10 in 2ms"},
		},
		"cut": {
			say:  []string{">" + get, "<HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", "<FIN"},
			want: []string{"> GET shop/a?b=c", "< 200 /a?b=c after 1ms", ". /a?b=c sent 0 got 5 in 1ms reset"},
		},
		"reset": {say: []string{">" + get, "<RST"}, want: []string{"> GET shop/a?b=c", ". /a?b=c sent 0 got 0 in 1ms reset"}},
		"a head that is too long to be copied": {
			say:    []string{">GET /long HTTP/1.1\r\nHost: x\r\nCookie: " + long + "\r\n\r\n", "<HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na", ">" + get, "<HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab"},
			copied: 1024,
			want: []string{
				"> GET x/long", "< 200 /long after 1ms", ". /long sent 0 got 1 in 1ms",
				"> GET shop/a?b=c", "< 200 /a?b=c after 1ms", ". /a?b=c sent 0 got 2 in 1ms",
			},
		},
		"TLS":               {say: []string{">\x16\x03\x01\x02\x00", "<\x16\x03\x03"}},
		"the server begins": {say: []string{"<220 ready\r\n", ">HELO x\r\n"}},
		"like HTTP/2":       {say: []string{">PRI * HTTP/1.0\r\n\r\nSM\r\n\r\n", "<\x00\x00\x00\x04"}},
		"an upgrade": {
			say:  []string{">GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", "<HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nabc", ">" + get},
			want: []string{"> GET x/", "< 101 / after 1ms", ". / sent 0 got 0 in 1ms"},
		},
	} {
		for _, accepted := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/accepted=%v", name, accepted), func(t *testing.T) {
				w, k, told := rig()
				k.server = accepted
				if c.copied > 0 {
					k.copied = c.copied
				}
				for _, line := range c.say {
					side := server
					if line[0] == '>' {
						side = client
					}
					s := k.segment(side, strings.TrimSuffix(strings.TrimSuffix(line[1:], "FIN"), "RST"))
					s.Fin, s.Reset = strings.HasSuffix(line, "FIN"), strings.HasSuffix(line, "RST")
					k.take(w, s)
				}
				told.want(t, c.want...)
				if c.want == nil && w.Counts().Opaque != 1 {
					t.Errorf("counts %+v, want an opaque flow", w.Counts())
				}
			})
		}
	}
}

// TestOrder: segments that come in another order, twice or in other pieces say the same.
func TestOrder(t *testing.T) {
	stream := get + "POST /p HTTP/1.1\r\nHost: y\r\nContent-Length: 10\r\n\r\n0123456789" + get
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		w, c, told := rig()
		var list []*Segment
		for rest := stream; rest != ""; {
			n := 1 + r.IntN(min(len(rest), 40))
			list = append(list, c.segment(client, rest[:n]))
			rest = rest[n:]
		}
		for i := range list[1:] { // the first one tells where the stream begins
			if i > 0 && r.IntN(3) == 0 {
				list[i], list[i+1] = list[i+1], list[i]
			}
		}
		if r.IntN(2) == 0 {
			i := r.IntN(len(list))
			list = slices.Insert(list, i, list[r.IntN(i+1)])
		}
		for _, s := range list {
			c.take(w, s)
		}
		told.want(t, "> GET shop/a?b=c", "> POST y/p", "> GET shop/a?b=c")
		if w.Counts().Gaps != 0 {
			t.Fatalf("seed %d: %+v", seed, w.Counts())
		}
	}
}

// TestLost: what is missed costs the requests that it was of, and no others.
func TestLost(t *testing.T) {
	w, c, told := rig()
	ok := "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab"
	c.say(w, client, get)
	c.segment(server, ok) // is lost
	c.say(w, client, strings.Replace(get, "/a", "/b", 1))
	c.say(w, server, ok) // waits for the lost one
	for range maxPending {
		c.say(w, server, "x")
	}
	c.say(w, client, strings.Replace(get, "/a", "/c", 1))
	c.say(w, server, ok)
	if got := told.list[len(told.list)-1]; !strings.HasPrefix(got, ". /c?b=c sent 0 got 2") {
		t.Errorf("got %q", told.list)
	}
	if n := w.Counts(); n.Gaps == 0 || n.Flows != 1 {
		t.Errorf("counts %+v, want a gap", n)
	}
}

// TestMidway: a connection whose beginning was missed is read from the next message on.
func TestMidway(t *testing.T) {
	w, c, told := rig()
	c.joined = true
	c.segment(client, "lost")
	c.segment(server, "lost, too")
	c.say(w, server, "the middle of a body")
	c.say(w, client, get)
	c.say(w, server, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	told.want(t, "> GET shop/a?b=c", "< 200 /a?b=c after 1ms", ". /a?b=c sent 0 got 0 in 1ms")
}

// TestSkip: the rest of a long body is not wanted, but for its end.
func TestSkip(t *testing.T) {
	w, c, told := rig()
	c.say(w, client, get)
	c.say(w, server, "HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n"+strings.Repeat("x", 1000))
	if !c.wish.Skip[0] || c.wish.Skip[1] {
		t.Fatalf("got the wish %+v, want one of what the pod receives", c.wish)
	}
	if end := c.wish.SkipTo[0] - c.first[server] - c.at[server]; end != 198999 {
		t.Errorf("%d bytes are skipped, want 198999", end)
	}
	c.segment(server, strings.Repeat("x", 190000))
	c.say(w, server, strings.Repeat("x", 9000)+"HTTP/1.1 ")
	told.want(t, "> GET shop/a?b=c", "< 200 /a?b=c after 1ms", ". /a?b=c sent 0 got 200000 in 3ms")
}

// TestLimits: what pods make the Watcher keep is bounded, for one and for all.
func TestLimits(t *testing.T) {
	w := New(Limits{Flows: 5, PodFlows: 3, Bytes: 1000, PodBytes: 600}, func(Kind, *Request) {})
	for flow := range uint64(20) {
		c := newConn()
		c.flow = flow
		s := c.segment(client, "GET / HTTP/1.1\r\nHost: ")
		c.pod = flow % 2
		wish, changed := c.take(w, s)
		if refused := flow >= 5; refused != (changed && wish.Off) {
			t.Errorf("flow %d: got %v, %v", flow, wish, changed)
		}
		s.Seq += 5000
		s.Data = make([]byte, 400)
		for range 3 {
			s.Seq += 1000
			w.Take(s)
		}
	}
	if n := w.Counts(); n.Flows != 5 || n.Bytes > 1000+5*64 || n.Refused == 0 {
		t.Errorf("counts %+v", n)
	}
	w.Leave(0)
	w.Leave(1)
	// Heads that do not end count as well: the last one is too much.
	for flow := range uint64(3) {
		c := newConn()
		c.flow = flow
		for range 3 {
			c.say(w, client, "GET /"+strings.Repeat("x", 95))
		}
		if n := w.Counts(); n.Bytes > 600+600 { // slices grow by more than is asked for
			t.Errorf("counts %+v", n)
		}
	}
	if n := w.Counts(); n.Bytes == 0 || w.flows[2].sides[requests].state != lost {
		t.Errorf("counts %+v, want a head that was given up", n)
	}
	w.Leave(9)
	if n := w.Counts(); n.Flows != 0 || n.Bytes != 0 {
		t.Errorf("counts %+v after the pods have left", n)
	}
}

// FuzzTake: whatever is sent, in whatever order, the Watcher stays within its limits, its
// events are in order, and it forgets.
func FuzzTake(f *testing.F) {
	f.Add([]byte(get), []byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab"), uint64(1))
	f.Add([]byte("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nHost: x\r\n\r\n3\r\nabc\r\n0\r\n\r\n"), []byte("HTTP/1.0 200 OK\r\n\r\nabc"), uint64(2))
	f.Add([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), []byte("\x00"), uint64(3))
	f.Fuzz(func(t *testing.T, requests, responses []byte, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 2))
		seen := map[uint64]Kind{}
		w := New(Limits{Flows: 2, PodFlows: 2, Bytes: 4096, PodBytes: 4096}, func(k Kind, q *Request) {
			if before := seen[q.ID]; before >= k {
				t.Errorf("request %d: %d after %d", q.ID, k, before)
			}
			if q.Ended < 0 || k == Ended && q.Ended < q.Began {
				t.Errorf("request %d ends before it begins: %+v", q.ID, q)
			}
			seen[q.ID] = k
		})
		c := newConn()
		rest := [2]string{string(requests), string(responses)}
		for rest[0] != "" || rest[1] != "" {
			side := r.IntN(2)
			if rest[side] == "" {
				side = 1 - side
			}
			n := 1 + r.IntN(min(len(rest[side]), 60))
			c.copied = 1 + r.IntN(80)
			s := c.segment(side, rest[side][:n])
			rest[side] = rest[side][n:]
			switch r.IntN(10) {
			case 0:
				continue // lost
			case 1:
				s.Seq += r.Uint32() // nonsense
			case 2:
				s.Fin = true
			case 3:
				s.Length += uint32(r.IntN(100000))
			}
			c.take(w, s)
			if r.IntN(8) == 0 {
				c.take(w, s)
			}
			if n := w.Counts(); n.Flows > 2 || n.Bytes > 4096+4*maxHead {
				t.Fatalf("kept %+v", n)
			}
		}
		w.Leave(9)
		if n := w.Counts(); n.Flows != 0 || n.Bytes != 0 {
			t.Errorf("kept %+v", n)
		}
	})
}
