package server

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// marked is a connection with a name that says whether it was closed.
type marked struct {
	net.Conn
	name   string
	closed *[]string
}

func (n marked) Close() error {
	*n.closed = append(*n.closed, n.name)
	return nil
}

// TestQueue: connections have their turns in order, as many at once as there are turns. What
// is too many, has waited too long, or comes after the end is closed.
func TestQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var closed []string
		var mu sync.Mutex
		var order []string
		goOn := make(chan struct{})
		q := &queue{most: 3, turns: 2, wait: time.Second, admit: func(conn net.Conn) {
			mu.Lock()
			order = append(order, conn.(marked).name)
			mu.Unlock()
			<-goOn
		}}
		put := func(names ...string) {
			for _, n := range names {
				q.put(marked{name: n, closed: &closed})
				synctest.Wait()
			}
		}
		expect := func(when string, admitted, gone []string, late uint64) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(order, admitted) || !slices.Equal(closed, gone) || q.Late() != late {
				t.Errorf("%s: admitted %v, closed %v, late %d, want %v, %v, %d", when, order, closed, q.Late(), admitted, gone, late)
			}
		}
		put("a", "b", "c", "d", "e", "f")
		expect("two turns, three places", []string{"a", "b"}, []string{"f"}, 1)
		goOn <- struct{}{}
		expect("one turn is over", []string{"a", "b", "c"}, []string{"f"}, 1)
		time.Sleep(2 * time.Second)
		put("g")
		goOn <- struct{}{}
		expect("d and e have waited too long", []string{"a", "b", "c", "g"}, []string{"f", "d", "e"}, 3)
		put("h")
		q.close()
		put("i")
		expect("closed", []string{"a", "b", "c", "g"}, []string{"f", "d", "e", "h", "i"}, 3)
		close(goOn)
		q.done.Wait()
		if q.running != 0 {
			t.Errorf("%d turns are left", q.running)
		}
	})
}

// TestNodesWaitTheirTurn: when more nodes connect at once than strangers may, each has its
// handshake, whatever strangers do meanwhile. Without known addresses some lose theirs.
func TestNodesWaitTheirTurn(t *testing.T) {
	const nodes, places = 100, 4
	for _, known := range []bool{true, false} {
		c := newController(t, func(c *controller) {
			c.limits.conns = places
			c.isNode = func(addr netip.Addr) bool { return known && addr.As4()[1] == 1 }
		})
		for i := range 2 * places {
			c.raw(fmt.Sprintf("127.2.0.%d", i+1)) // strangers that say nothing
		}
		var all sync.WaitGroup
		errs := make(chan error, nodes)
		conns := make([]net.Conn, nodes)
		for i := range conns { // before the first of them says anything
			conns[i] = c.raw(fmt.Sprintf("127.1.%d.%d", i/200, i%200+1))
		}
		for _, conn := range conns {
			all.Go(func() {
				_ = conn.SetDeadline(time.Now().Add(time.Minute))
				over := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
				err := over.Handshake()
				if err == nil {
					_, err = over.Read(make([]byte, 1)) // HTTP/2's SETTINGS
				}
				_ = conn.Close()
				errs <- err
			})
		}
		all.Wait()
		close(errs)
		failed := 0
		for err := range errs {
			if err != nil {
				failed++
			}
		}
		if known && failed > 0 {
			t.Errorf("%d of %d nodes had no handshake", failed, nodes)
		}
		if !known && failed == 0 {
			t.Errorf("all %d handshakes of strangers succeeded, with %d places: the test shows nothing", nodes, places)
		}
	}
}
