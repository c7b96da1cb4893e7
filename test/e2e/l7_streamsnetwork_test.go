package e2e

import (
	"io"
	"testing"
	"time"

	"github.com/underlane/underlane/test/lab"
)

// TestOpaqueStreamsAfar: between nodes that are far apart, a message of some hundred kilobytes on
// a new connection takes about as many round trips as without the mesh, where TCP's slow start
// makes them.
func TestOpaqueStreamsAfar(t *testing.T) {
	const (
		port    = 9000
		delay   = 20 * time.Millisecond
		message = 400 << 10
	)
	best := map[bool]time.Duration{}
	for _, bare := range []bool{true, false} {
		l := upL7With(t, lab.Options{NoMesh: bare, AgentArgs: streamsOn})
		echoIn(t, l.Lab, "far", port)
		to := addrPort(l.Pod("far").IP(), port)
		apart(t, l.Lab, node1, l.Pod("far").IP(), delay)
		learn(t, l, to)
		for range 5 {
			c := l.from.raw(t, to)
			c.send("\x00hello")
			c.expect("\x00hello")
			began := time.Now()
			go func() { _, _ = c.Write(make([]byte, message)) }()
			if _, err := io.CopyN(io.Discard, c.r, message); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); best[bare] == 0 || took < best[bare] {
				best[bare] = took
			}
			c.Close()
		}
	}
	t.Logf("without the mesh %v, with it %v", best[true], best[false])
	if best[false] > best[true]*3/2+2*delay {
		t.Errorf("%d bytes to and fro took %v, and %v without the mesh", message, best[false], best[true])
	}
}
