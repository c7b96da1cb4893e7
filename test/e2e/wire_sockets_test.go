package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// TestUrgentBytes: an urgent byte (MSG_OOB) arrives in its place, both ways, as at a
// program with SO_OOBINLINE without the mesh.
func TestUrgentBytes(t *testing.T) {
	t.Parallel()
	bareAndMeshed(t, func(t *testing.T, l *l7Lab) {
		for _, w := range l.ways {
			for _, inline := range []bool{true, false} {
				if l.bare && !inline {
					continue // the byte is out of band there, which a mesh cannot keep
				}
				addr, flag := w.addr(9000), fmt.Sprintf("--inline=%v", inline)
				server := inPod(t, l.Lab, w.server, "labtest", "urgent", "--listen", flag, addr)
				server.line() // it listens
				const want = `"abc!de"`
				if got := strings.TrimSpace(l.Exec("client", "labtest", "urgent", flag, addr)); got != want {
					t.Errorf("%s, %s: the client read %s, want %s", w.name, flag, got, want)
				}
				if got := server.line(); got != want {
					t.Errorf("%s, %s: the server read %s, want %s", w.name, flag, got, want)
				}
				server.end()
			}
		}
	})
}

// TestOneSourcePort: a program may connect one source port to several destinations.
func TestOneSourcePort(t *testing.T) {
	t.Parallel()
	bareAndMeshed(t, func(t *testing.T, l *l7Lab) {
		for i, ways := range [][]way{{l.ways[0], l.ways[2]}, {l.ways[1], l.ways[3]}} { // far and near, by family
			port := fmt.Sprint(23000 + i)
			argv := []string{"labtest", "one-source", port, ways[0].addr(7000), ways[1].addr(7000)}
			var want string
			for _, w := range ways {
				want += fmt.Sprintf("%s %s hello %s\n", addrPort(w.clientIP, 23000+i), w.addr(7000), w.addr(7000))
			}
			if got := l.Exec("client", argv...); got != want {
				t.Errorf("%v printed\n%swant\n%s", argv[1:], got, want)
			}
		}
	})
}
