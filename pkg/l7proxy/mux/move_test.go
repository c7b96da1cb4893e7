package mux_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/pkg/fairshare"
	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/mux"
	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/rawio"
)

// carried is an opaque connection that a stream carries between two agents.
type carried struct {
	t           *testing.T
	client, app *rawio.Conn // the ends
	stream      *mux.Stream // of the client's agent
	adopts      *mux.Conn   // of the server's agent
	over        [2]chan mesh.Reason
	seen        bytes.Buffer // what the client's agent has shown of the server's bytes; valid after its relay
}

// relay carries a connection as an agent does.
func relay(client, server conn.Conn, seen func([]byte)) chan mesh.Reason {
	over := make(chan mesh.Reason, 1)
	go func() {
		r := conn.Relay{Client: client, Server: server, Task: new(fairshare.Task), Seen: seen}
		over <- r.Run(nil, nil)
		server.Close()
		client.Close()
	}()
	return over
}

// carrier has agents that share a connection.
type carrier struct {
	t        *testing.T
	client   *mux.Conn
	server   *mux.Conn
	accepted chan *mux.Stream
}

func newCarrier(t *testing.T) *carrier {
	a, b := proxytest.Pair(t)
	k := &carrier{t: t, accepted: make(chan *mux.Stream)}
	k.server = mux.NewServer(mux.Opaque, conn.Plain{Conn: b}, nil, func(s *mux.Stream) { go func() { k.accepted <- s }() })
	k.client = mux.NewClient(mux.Opaque, conn.Plain{Conn: a}, nil, nil)
	var running sync.WaitGroup
	for _, c := range []*mux.Conn{k.client, k.server} {
		running.Go(func() {
			_ = c.Run(nil)
			c.End()
		})
	}
	t.Cleanup(func() {
		a.Close()
		running.Wait()
	})
	return k
}

// open opens a connection, on which a byte has gone each way.
func (k *carrier) open() *carried {
	k.t.Helper()
	client, agent := proxytest.Pair(k.t)
	agent2, app := proxytest.Pair(k.t)
	c := &carried{t: k.t, client: client, app: app, adopts: k.server, stream: k.client.OpenOpaque(4000)}
	if c.stream == nil {
		k.t.Fatal("no stream")
	}
	c.stream.Begin()
	accepted := <-k.accepted
	accepted.Accept()
	c.over[0] = relay(conn.Plain{Conn: agent}, c.stream, func(p []byte) { c.seen.Write(p) })
	c.over[1] = relay(accepted, conn.Plain{Conn: agent2}, nil)
	for _, end := range [][2]*rawio.Conn{{client, app}, {app, client}} {
		_ = end[0].SetDeadline(time.Now().Add(time.Minute))
		if _, err := end[0].Write([]byte("x")); err != nil {
			k.t.Fatal(err)
		}
		if _, err := io.ReadFull(end[1], make([]byte, 1)); err != nil {
			k.t.Fatal(err)
		}
	}
	return c
}

// move moves the stream, if that does not end before. It reports whether both agents know so.
func (c *carried) move() bool {
	here, there := proxytest.Pair(c.t)
	adopted := make(chan bool, 1)
	go func() {
		what, err := mux.ReadMoves(there)
		var gone <-chan struct{}
		if err == nil {
			gone = c.adopts.Adopt(what.ID, conn.Plain{Conn: there})
		}
		adopted <- gone != nil
		if gone != nil {
			<-gone
		}
		there.Close()
	}()
	err := c.stream.MoveTo(conn.Plain{Conn: here})
	return <-adopted && err == nil
}

// write writes pieces, and calls before before that with this index, or after the last one. Then
// it ends the side.
func write(t *testing.T, c *rawio.Conn, pieces [][]byte, at int, before func()) {
	for i, p := range pieces {
		if i == at {
			before()
		}
		if _, err := c.Write(p); err != nil {
			t.Errorf("piece %d: %v", i, err)
			return
		}
	}
	if at == len(pieces) {
		before()
	}
	if err := c.CloseWrite(); err != nil {
		t.Error(err)
	}
}

// TestMoveAtEachPiece: wherever a stream moves, both sides get all bytes in their order, and
// their ends. The other side writes meanwhile, or has ended.
func TestMoveAtEachPiece(t *testing.T) {
	const pieces = 6
	for _, size := range []int{1, 1000, 30_000, 70_000} {
		for _, other := range []string{"writes", "ended", "waits"} {
			t.Run(fmt.Sprintf("%d/%s", size, other), func(t *testing.T) {
				t.Parallel()
				k := newCarrier(t)
				var list [][]byte
				for i := range pieces {
					p := make([]byte, size+i)
					_, _ = io.ReadFull(proxytest.NewPattern(int64(len(p))), p)
					p[0] = byte(i)
					list = append(list, p)
				}
				whole := bytes.Join(list, nil)
				for at := range pieces + 1 {
					for _, fromApp := range []bool{false, true} {
						c := k.open()
						from, to := c.client, c.app
						if fromApp {
							from, to = to, from
						}
						reads := func(end *rawio.Conn, want []byte, what string) {
							got, err := io.ReadAll(end)
							if err != nil || !bytes.Equal(got, want) {
								t.Errorf("moved at piece %d, from the application %v: %s got %d bytes (%v), want %d", at, fromApp, what, len(got), err, len(want))
							}
						}
						var all, moving sync.WaitGroup
						if other == "ended" {
							_ = to.CloseWrite()
							reads(from, nil, "the sender")
						} else {
							all.Go(func() { reads(from, whole, "the sender") })
						}
						all.Go(func() {
							write(t, from, list, at, func() { moving.Go(func() { c.move() }) })
						})
						if other == "writes" {
							all.Go(func() { write(t, to, list, -1, nil) })
						}
						reads(to, whole, "the receiver")
						if other == "waits" {
							write(t, to, list, -1, nil)
						}
						all.Wait()
						moving.Wait()
						answer := whole
						if other == "ended" && !fromApp {
							answer = nil
						}
						for _, over := range c.over {
							if reason := <-over; reason != mesh.ReasonNone {
								t.Errorf("moved at piece %d: %v, want an end in order", at, reason)
							}
						}
						if got := c.seen.Bytes()[1:]; !bytes.Equal(got, answer) {
							t.Errorf("moved at piece %d: the client's agent has seen %d bytes of the server, want %d", at, len(got), len(answer))
						}
					}
				}
				proxytest.Eventually(t, "no stream to be left", func() bool { return k.client.Streams()+k.server.Streams() == 0 })
			})
		}
	}
}

// TestMovedStreamIsCut: a moved stream is cut by a reset of either side, and by the end of its
// connection, and not by the end of the shared one.
func TestMovedStreamIsCut(t *testing.T) {
	for _, fromApp := range []bool{false, true} {
		k := newCarrier(t)
		c := k.open()
		if !c.move() {
			t.Fatal("the stream has not moved")
		}
		proxytest.Eventually(t, "no stream to be left", func() bool { return k.client.Streams()+k.server.Streams() == 0 })
		_ = k.client.NC.Reset()
		from, to := c.client, c.app
		if fromApp {
			from, to = to, from
		}
		if _, err := from.Write([]byte("goes on")); err != nil {
			t.Error(err)
		}
		if _, err := io.ReadFull(to, make([]byte, 7)); err != nil {
			t.Error(err)
		}
		_ = from.Reset()
		from.Close()
		if _, err := to.Read(make([]byte, 1)); !isReset(err) {
			t.Errorf("read %v, want a reset", err)
		}
	}
}

// TestMoveIsLost: if the peer has moved a stream, and this end could not know it, the stream is
// cut: the trailers are not its end.
func TestMoveIsLost(t *testing.T) {
	k := newCarrier(t)
	c := k.open()
	here, there := proxytest.Pair(t)
	other, _ := proxytest.Pair(t)
	wants := make(chan mux.Moves, 1)
	go func() {
		what, _ := mux.ReadMoves(there)
		wants <- what
		there.Close() // the answer is lost
	}()
	if err := c.stream.MoveTo(conn.Plain{Conn: here}); err == nil {
		t.Error("the stream has moved")
	}
	if k.server.Adopt((<-wants).ID, conn.Plain{Conn: other}) == nil {
		t.Error("the server's agent knows no such stream")
	}
	if _, err := c.client.Read(make([]byte, 1)); !isReset(err) {
		t.Errorf("read %v, want a reset", err)
	}
}

// TestStays: a stream whose peer does not accept that it moves goes on where it is.
func TestStays(t *testing.T) {
	k := newCarrier(t)
	c := k.open()
	here, there := proxytest.Pair(t)
	go func() {
		_, _ = mux.ReadMoves(there)
		there.Close()
	}()
	if err := c.stream.MoveTo(conn.Plain{Conn: here}); err == nil {
		t.Error("the stream has moved")
	}
	for _, end := range [][2]*rawio.Conn{{c.client, c.app}, {c.app, c.client}} {
		if _, err := end[0].Write([]byte("still there")); err != nil {
			t.Error(err)
		}
		if _, err := io.ReadFull(end[1], make([]byte, 11)); err != nil {
			t.Error(err)
		}
	}
	c.client.Close()
	c.app.Close()
}

func isReset(err error) bool { return errors.Is(err, unix.ECONNRESET) }
