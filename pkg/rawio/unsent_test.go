package rawio

import (
	"io"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestSocketTakesLittle of what its receiver does not read, at both ends, and more after
// the receiver has read much.
func TestSocketTakesLittle(t *testing.T) {
	client, server := pair(t, "127.0.0.1:0")
	ends := map[string][2]*Conn{"connected": {client, server}, "accepted": {server, client}}
	part := make([]byte, 1<<20)
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			from, to := end[0], end[1]
			from.Impatient()
			// The kernel looks at the bound before it begins a packet of up to 64 KiB.
			if got, most := fill(t, from, part), unsentAtFirst+64<<10; got > most {
				t.Errorf("the socket took %d bytes that it has not sent, want at most %d", got, most)
			}
			_, sent := from.Bytes()
			toRead := int64(sent) + int64(from.Backlog()) + unsentProven
			done := make(chan error, 1)
			go func() {
				_, err := io.CopyN(io.Discard, to, toRead)
				done <- err
			}()
			for range unsentProven / len(part) {
				if err := from.Flush(); err != nil {
					t.Fatal(err)
				}
				if _, err := from.Write(part); err != nil {
					t.Fatal(err)
				}
			}
			if err := from.Flush(); err != nil {
				t.Fatal(err)
			}
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			got := fill(t, from, part)
			if least, most := unsentLater/2, unsentLater+64<<10; got < least || got > most {
				t.Errorf("after 4 MiB the socket took %d bytes that it has not sent, want %d to %d", got, least, most)
			}
		})
	}
}

// fill writes until the socket has taken no more for some time: while it sends, it takes
// more. It returns how many bytes the socket has not sent.
func fill(t *testing.T, c *Conn, part []byte) int {
	t.Helper()
	for idle := 0; idle < 20; {
		n := 0
		if err := c.control("write", func(fd int) (err error) {
			if n, err = unix.Write(fd, part); err == unix.EAGAIN {
				n, err = 0, nil
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if c.wrote(n); n > 0 {
			idle = 0
			continue
		}
		idle++
		time.Sleep(5 * time.Millisecond)
	}
	unsent := 0
	if err := c.control("ioctl", func(fd int) (err error) {
		unsent, err = unix.IoctlGetInt(fd, unix.SIOCOUTQNSD)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return unsent
}
