package l7proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestLargePieces: what is more than a segment of the network the kernel would
// acknowledge at once without the mesh. By the loopback device, as between a program
// and its agent, such a piece is a segment, and acknowledged at once as well: a peer
// with Nagle's algorithm on can send the next.
func TestLargePieces(t *testing.T) {
	const delayed = 40 * time.Millisecond
	write := func(c net.Conn, pieces ...string) error {
		_ = c.(*net.TCPConn).SetNoDelay(false)
		for _, p := range pieces {
			if _, err := io.WriteString(c, p); err != nil {
				return err
			}
		}
		return nil
	}
	for _, n := range []int{4096, 5000, 20000, 32 << 10, 40000} {
		piece := strings.Repeat("x", n)
		length := fmt.Sprintf("Content-Length: %d\r\n\r\n", n+5)
		for _, test := range []struct {
			name           string
			asked, answers []string
		}{
			{"request", []string{"POST / HTTP/1.1\r\nHost: x\r\n" + length + piece, "hello"}, []string{"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"}},
			{"response", []string{"GET / HTTP/1.1\r\nHost: x\r\n\r\n"}, []string{"HTTP/1.1 200 OK\r\n" + length + piece, "hello"}},
			{"opaque request", []string{"\x00" + piece, "hello"}, []string{"ok"}},
			{"opaque response", []string{"\x00"}, []string{piece, "hello"}},
		} {
			t.Run(fmt.Sprint(test.name, " ", n), func(t *testing.T) {
				e := newEnv(t)
				b := newBackend(t)
				opaque := test.asked[0][0] == 0
				serve := func(c net.Conn) {
					defer c.Close()
					for r := bufio.NewReader(c); ; {
						var err error
						if opaque {
							_, err = io.CopyN(io.Discard, r, int64(len(strings.Join(test.asked, ""))))
						} else if req, rerr := http.ReadRequest(r); rerr != nil {
							err = rerr
						} else {
							_, err = io.Copy(io.Discard, req.Body)
						}
						if err != nil || write(c, test.answers...) != nil {
							return
						}
					}
				}
				over := make(chan struct{})
				t.Cleanup(func() { close(over) })
				go func() {
					for { // one may be made ahead, and given up
						select {
						case c := <-b.conns:
							go serve(c)
						case <-over:
							return
						}
					}
				}()
				c := e.dial(b.addr)
				t.Cleanup(func() { c.Close() })
				var took []time.Duration
				for range 20 {
					began := time.Now()
					if err := write(c.TCPConn, test.asked...); err != nil {
						t.Fatal(err)
					}
					if opaque {
						c.expect(strings.Join(test.answers, ""))
					} else {
						c.response("GET")
					}
					took = append(took, time.Since(began))
				}
				slices.Sort(took)
				if median := took[len(took)/2]; median >= delayed {
					t.Errorf("an exchange took %s", median)
				}
			})
		}
	}
}
