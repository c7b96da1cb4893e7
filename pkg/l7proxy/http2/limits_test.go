package http2

import (
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"
)

// crowd is a client of a Conn in the server role, and its driver. The clock stands still
// unless a test moves it.
type crowd struct {
	*wire
	now  time.Duration
	next uint32
	err  error
}

func newCrowd(t *testing.T, cfg Config) *crowd {
	return &crowd{wire: newWire(t, cfg), next: 1}
}

// feed passes on what was written since the last call.
func (c *crowd) feed() {
	c.c.Tick(c.now)
	if _, err := c.c.Feed(c.in.Bytes()); c.err == nil {
		c.err = err
	}
	c.in.Reset()
	c.c.TakeOutput(nil)
}

// open opens a stream whose request has not ended.
func (c *crowd) open() uint32 {
	id := c.next
	c.next += 2
	c.get(id, false)
	c.feed()
	return id
}

func (c *crowd) reset(id uint32) {
	must(c.t, c.fr.WriteRSTStream(id, Cancel))
	c.feed()
}

func (c *crowd) answer(id uint32) {
	_ = c.c.WriteHeaders(id, fieldList(":status", "200"), false)
	c.c.TakeOutput(nil)
}

// violate makes the Conn reset the stream.
func (c *crowd) violate(id uint32) {
	must(c.t, c.fr.WriteWindowUpdate(id, 0))
	c.feed()
}

// over returns how many turns the connection lasts, at most limit.
func (c *crowd) over(limit int, turn func()) int {
	for i := range limit {
		if turn(); c.err != nil {
			return i
		}
	}
	return limit
}

// TestResetLimit: streams opened in vain end the connection when they exceed the limit.
// Other resets never do.
func TestResetLimit(t *testing.T) {
	const forever = 5000
	each := func(d time.Duration) func(*crowd) { return func(c *crowd) { c.now += d } }
	for _, test := range []struct {
		name string
		cfg  Config
		turn func(c *crowd)
		want int // turns until the end
	}{
		{"reset at once by the client", Config{}, func(c *crowd) { c.reset(c.open()) }, forever},
		{"reset by the client when answered", Config{}, func(c *crowd) { id := c.open(); c.answer(id); c.reset(id) }, forever},
		{"one of two answered", Config{}, func(c *crowd) { c.answer(c.open()); c.violate(c.open()); c.reset(c.next - 4) }, forever},
		{"one of three answered", Config{}, func(c *crowd) {
			c.answer(c.open())
			c.violate(c.open())
			c.violate(c.open())
			c.reset(c.next - 6)
		}, DefaultResetBurst - 1},
		{"as many as leak", Config{}, func(c *crowd) { c.violate(c.open()); each(time.Second / DefaultResetRate)(c) }, forever},
		{"twice as many as leak", Config{}, func(c *crowd) { c.violate(c.open()); each(time.Second / DefaultResetRate / 2)(c) }, 2*DefaultResetBurst - 1},
		{"for a violation, at once", Config{}, func(c *crowd) { c.violate(c.open()) }, DefaultResetBurst},
		{"for a violation, when old", Config{}, func(c *crowd) {
			id := c.open()
			c.now += time.Millisecond
			c.violate(id)
		}, 555},
		{"for a violation, when answered", Config{}, func(c *crowd) { id := c.open(); c.answer(id); c.violate(id) }, DefaultResetBurst - 1},
		{"a violation of a stream that has ended", Config{}, func(c *crowd) {
			id := c.next
			c.next += 2
			c.get(id, true)
			must(c.t, c.fr.WriteData(id, false, []byte("x")))
			c.feed()
		}, DefaultResetBurst},
		{"malformed, and answered", Config{}, func(c *crowd) {
			c.get(c.next, true, "X", "")
			c.feed()
			c.answer(c.next)
			c.c.WriteReset(c.next, ProtocolError)
			c.next += 2
		}, DefaultResetBurst},
		{"a limit of its own", Config{Resets: ResetLimit{Burst: 10, PerSecond: 1}}, func(c *crowd) {
			id := c.open()
			c.now += 100 * time.Millisecond
			c.violate(id)
		}, 11},
		{"no limit", Config{Resets: ResetLimit{Burst: -1}}, func(c *crowd) { c.reset(c.open()); c.violate(c.open()) }, forever},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.cfg.Role = Server
			c := newCrowd(t, test.cfg)
			got := c.over(forever, func() { test.turn(c) })
			if got != test.want {
				t.Errorf("the connection lasts %d turns, want %d (%v)", got, test.want, c.err)
			}
			if ce, ok := c.err.(*ConnError); test.want < forever && (!ok || ce.Code != EnhanceYourCalm) {
				t.Errorf("it ends with %v, want %v", c.err, EnhanceYourCalm)
			}
		})
	}
}

// TestVain: an event says that its client gave up a request, unless the response had
// begun. An interim response is none.
func TestVain(t *testing.T) {
	for name, test := range map[string]struct {
		status string
		want   bool
	}{"not answered": {"", true}, "interim": {"103", true}, "answered": {"200", false}} {
		t.Run(name, func(t *testing.T) {
			w := newWire(t, Config{Role: Server})
			w.get(1, true)
			w.feed("HEADERS 1 " + getEvent + " END")
			if test.status != "" {
				must(t, w.c.WriteHeaders(1, fieldList(":status", test.status), false))
			}
			must(t, w.fr.WriteRSTStream(1, Cancel))
			events, err := w.c.Feed(w.in.Bytes())
			must(t, err)
			if len(events) != 1 || events[0].Kind != EventReset || events[0].Vain != test.want {
				t.Errorf("got %+v, want a RESET with Vain = %v", events, test.want)
			}
		})
	}
}

// TestBurstOfResets: the bucket takes its burst, and the same again after it has leaked.
func TestBurstOfResets(t *testing.T) {
	c := newCrowd(t, Config{Role: Server})
	burst := func() { c.violate(c.open()) }
	for i := range 10 {
		if got := c.over(DefaultResetBurst, burst); got != DefaultResetBurst {
			t.Fatalf("burst %d: %d resets are let pass, want %d", i, got, DefaultResetBurst)
		}
		c.now += DefaultResetBurst * time.Second / DefaultResetRate
	}
}

// TestRefusals: streams that exceed MaxStreams are refused with REFUSED_STREAM, so that
// the client may send them again (RFC 9113 §5.1.2). Before the client has acknowledged
// the limit, maxRefusedEarly of them do not count.
func TestRefusals(t *testing.T) {
	for name, acks := range map[string]bool{"acknowledged": true, "not acknowledged": false} {
		t.Run(name, func(t *testing.T) {
			c := newCrowd(t, Config{Role: Server})
			if acks {
				must(t, c.fr.WriteSettingsAck())
			}
			for range DefaultMaxStreams {
				c.open()
			}
			if c.c.Streams() != DefaultMaxStreams {
				t.Fatalf("%d streams are open, want %d", c.c.Streams(), DefaultMaxStreams)
			}
			c.get(c.next, true)
			c.wire.feed()
			c.sent("RST_STREAM 501 REFUSED_STREAM")
			c.next += 2
			want := DefaultResetBurst - 1
			if !acks {
				want += maxRefusedEarly
			}
			if got := c.over(2*want, func() { c.open() }); got != want || c.c.Streams() != DefaultMaxStreams {
				t.Errorf("%d more are refused before the connection ends, want %d", got, want)
			}
		})
	}
	t.Run("room again", func(t *testing.T) {
		c := newCrowd(t, Config{Role: Server, MaxStreams: 1})
		first := c.open()
		c.reset(first)
		c.get(c.next, true)
		c.wire.feed("HEADERS 3 " + getEvent + " END")
	})
}

// TestEmptyData: a server may send any number of empty DATA frames. A client may send
// emptyBurst at once, and any number over time or between other frames.
func TestEmptyData(t *testing.T) {
	t.Run("of a server", func(t *testing.T) {
		w := newWire(t, Config{Role: Client})
		id, err := w.c.OpenStream(fieldList(getFields...), true)
		must(t, err)
		w.headers(id, false, ":status", "200")
		w.feed("HEADERS 1 :status=200")
		for range 10 {
			for range 3000 {
				must(t, w.fr.WriteData(id, false, nil))
			}
			w.feed()
		}
		must(t, w.fr.WriteData(id, true, []byte("end")))
		w.feed(`DATA 1 "end" END`)
	})
	for _, test := range []struct {
		name  string
		every time.Duration
		full  bool // every thousandth frame has a byte
		want  int
	}{
		{"of a client, at once", 0, false, emptyBurst},
		{"of a client, in time", time.Second / emptyRate, false, 10_000},
		{"of a client, with others between", 0, true, 10_000},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newCrowd(t, Config{Role: Server})
			id := c.open()
			n := 0
			got := c.over(10_000, func() {
				n++
				var p []byte
				if test.full && n%1000 == 0 {
					p = []byte("x")
				}
				must(t, c.fr.WriteData(id, false, p))
				c.now += test.every
				c.feed()
			})
			if got != test.want {
				t.Errorf("the connection ends after %d frames, want %d (%v)", got, test.want, c.err)
			}
		})
	}
}

// TestServersMayReset: the client role has no limit on resets.
func TestServersMayReset(t *testing.T) {
	w := newWire(t, Config{Role: Client}, xhttp2.Setting{ID: xhttp2.SettingMaxConcurrentStreams, Val: 1000})
	for range 5000 {
		id, err := w.c.OpenStream(fieldList(getFields...), true)
		must(t, err)
		must(t, w.fr.WriteRSTStream(id, RefusedStream))
		if _, err := w.c.Feed(w.in.Bytes()); err != nil {
			t.Fatal(err)
		}
		w.in.Reset()
		w.c.TakeOutput(nil)
	}
}

// TestLateData: what a client has sent before it sees that its streams were reset does not
// count against it, however many streams these are.
func TestLateData(t *testing.T) {
	c := newCrowd(t, Config{Role: Server, MaxStreams: 1000})
	for range 1000 {
		c.open()
	}
	for id := uint32(1); id < c.next; id += 2 {
		c.c.WriteReset(id, Cancel)
	}
	for range 3 {
		for id := uint32(1); id < c.next; id += 2 {
			must(t, c.fr.WriteData(id, false, []byte("late")))
			c.feed()
		}
	}
	if c.err != nil {
		t.Errorf("the connection ends with %v, want no end", c.err)
	}
}

// TestWindowChanges: SETTINGS that change the windows of many streams end the connection
// if there are too many, and not if a client sends one now and then.
func TestWindowChanges(t *testing.T) {
	const streams = 1000
	for name, test := range map[string]struct {
		every time.Duration
		want  int
	}{"at once": {0, windowsBurst / streams}, "in time": {streams * time.Second / windowsRate, 5000}} {
		t.Run(name, func(t *testing.T) {
			c := newCrowd(t, Config{Role: Server, MaxStreams: streams})
			for range streams {
				c.open()
			}
			n := uint32(0)
			got := c.over(5000, func() {
				n++
				must(t, c.fr.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: n}))
				c.now += test.every
				c.feed()
			})
			if got != test.want {
				t.Errorf("the connection takes %d changes, want %d (%v)", got, test.want, c.err)
			}
		})
	}
}
