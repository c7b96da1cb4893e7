package http2

import (
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"
)

// TestFramingWaits: a peer that sends frames without content, or of a byte, is read at
// framingRate after framingBurst; one that sends or receives content never waits.
func TestFramingWaits(t *testing.T) {
	for name, tt := range map[string]struct {
		unit  func(c *crowd, id uint32)
		bytes int // that count for each unit; 0: it never waits
	}{
		"PRIORITY":        {func(c *crowd, id uint32) { must(c.t, c.fr.WritePriority(id, xhttp2.PriorityParam{})) }, 14},
		"unknown":         {func(c *crowd, _ uint32) { must(c.t, c.fr.WriteRawFrame(0xfa, 0, 0, make([]byte, 20))) }, 29},
		"PING":            {func(c *crowd, _ uint32) { must(c.t, c.fr.WritePing(false, [8]byte{})) }, 17},
		"WINDOW_UPDATE":   {func(c *crowd, _ uint32) { must(c.t, c.fr.WriteWindowUpdate(0, 1)) }, 13},
		"DATA of 1 byte":  {func(c *crowd, id uint32) { must(c.t, c.fr.WriteData(id, false, []byte{0})) }, 7},
		"DATA of 5 bytes": {func(c *crowd, id uint32) { must(c.t, c.fr.WriteData(id, false, make([]byte, 5))) }, 0},
		"a download that is acknowledged often": {func(c *crowd, id uint32) {
			if n, _ := c.c.WriteData(id, make([]byte, 50), false); n != 50 {
				c.t.Fatal("the window is full")
			}
			c.c.TakeOutput(nil)
			must(c.t, c.fr.WriteWindowUpdate(0, 50))
			must(c.t, c.fr.WriteWindowUpdate(id, 50))
		}, 0},
		"requests": {func(c *crowd, _ uint32) { c.get(c.next, true); c.next += 2 }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCrowd(t, Config{Role: Server, MaxStreams: 1 << 20, Resets: ResetLimit{Burst: -1}})
			id := c.open()
			c.answer(id)
			const units = 20_000
			for range units {
				tt.unit(c, id)
				c.feed()
				c.c.Consume(id, 5)
			}
			if c.err != nil {
				t.Fatal(c.err)
			}
			want := time.Duration(max(0, units*tt.bytes-framingBurst)) * (time.Second / framingRate)
			const others = time.Millisecond // the frames of the exchange before count, too
			if got := c.c.Wait(); got < want || got > want+others {
				t.Errorf("got a wait of %v, want %v", got, want)
			}
			c.now += want + others
			c.c.Tick(c.now)
			if got := c.c.Wait(); got != 0 {
				t.Errorf("after the wait: got a wait of %v, want none", got)
			}
		})
	}
}
