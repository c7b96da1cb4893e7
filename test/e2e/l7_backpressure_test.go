package e2e

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// largeBody is the variable with the size of TestFullSlowReader's bodies in GiB, 1 if it
// is not set. 10 is what was promised.
const largeBody = "UNDERLANE_LARGE_BODY"

// mayBeAhead is how much of a body its sender may have sent that its reader has not
// read: the buffers of four pairs of sockets, and what the agents hold.
const mayBeAhead = 128 << 20

// TestSlowReader: bodies larger than that whose readers stop in between. What is not
// read stays with the sender: no agent on the way holds it.
func TestSlowReader(t *testing.T) { readSlowly(t, 256<<20) }

// TestFullSlowReader does the same with larger bodies.
func TestFullSlowReader(t *testing.T) {
	size := int64(1 << 30)
	if text := os.Getenv(largeBody); text != "" {
		gib, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			t.Fatalf("%s: %v", largeBody, err)
		}
		size = gib << 30
	}
	readSlowly(t, size)
}

func readSlowly(t *testing.T, size int64) {
	l := upL7(t)
	url := "http://" + addrPort(l.Pod("far").IP(), 8080)
	for _, tt := range []struct {
		name string
		args []string
	}{
		{"HTTP/1 down", nil},
		{"HTTP/1 up", []string{"--up"}},
		{"HTTP/2 down", []string{"--http2"}},
		{"HTTP/2 up", []string{"--http2", "--up"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			check := boundedMemory(t, l.Lab, 64<<20)
			began := time.Now()
			out := l.Exec("client", append(append([]string{"labtest", "slow", "--pause", "2s", "--bytes", strconv.FormatInt(size, 10)}, tt.args...), url)...)
			var moved, ahead int64
			if _, err := fmt.Fscan(strings.NewReader(out), &moved, &ahead); err != nil {
				t.Fatalf("%q: %v", out, err)
			}
			t.Logf("%d MiB in %v; the sender was %d KiB ahead of a reader that stood still", moved>>20, time.Since(began).Round(time.Millisecond), ahead>>10)
			if moved != size || ahead <= 0 || ahead > mayBeAhead {
				t.Errorf("%d of %d bytes moved, %d ahead", moved, size, ahead)
			}
			check()
		})
	}
}
