package h1

import (
	"strings"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/http1"
)

// TestPace: chunks of a byte wait when they have had their burst, and chunks that carry
// something never.
func TestPace(t *testing.T) {
	var p pace
	now := time.Minute
	var body http1.Body
	read := func(part string, want time.Duration) {
		t.Helper()
		if _, _, err := body.Next([]byte(part)); err != nil {
			t.Fatal(err)
		}
		if got, _ := p.wait(now, body.Framing()); got != want {
			t.Fatalf("got a wait of %v, want %v", got, want)
		}
	}
	begin := func() {
		t.Helper()
		var head http1.Head
		if _, err := http1.ParseRequest([]byte("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"), &head); err != nil {
			t.Fatal(err)
		}
		body = head.Body()
	}
	const chunks = 10_000
	const framing = 3 * chunks // bytes of framing in a read, less twice its content
	bytes := func(n int) time.Duration { return time.Duration(n) * (time.Second / framingRate) }
	small := strings.Repeat("1\r\nx\r\n", chunks)
	burst := func() {
		t.Helper()
		for range framingBurst / framing {
			read(small, 0)
		}
		over := bytes(framing*(framingBurst/framing+1) - framingBurst)
		read(small, over)
		now += over
	}

	begin()
	burst()
	begin() // another request does not begin anew
	read(small, bytes(framing))
	now += time.Minute
	burst()

	begin()
	now += time.Minute
	for range 1000 {
		read(strings.Repeat("400\r\n"+strings.Repeat("x", 1024)+"\r\n", 10), 0)
	}
	burst() // what it carried is no credit
}
