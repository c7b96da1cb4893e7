package h1

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/request"
	"github.com/underlane/underlane/pkg/rawio"
)

// watchedConn counts how often it is watched.
type watchedConn struct {
	conn.Conn
	watches atomic.Int32
}

func (c *watchedConn) OnHangup(*rawio.Hangups, func()) error {
	c.watches.Add(1)
	return nil
}

// TestLookout: the client of a first request is watched if the answer takes longer than
// lookoutPeriod, and not if it comes before; that of a later request is watched at once; and
// none twice.
func TestLookout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		driver := &Driver{}
		begin := func() (*link, *watchedConn) {
			client := &watchedConn{}
			s := &request.Session{}
			s.Client = client
			d := &link{driver: driver, s: s}
			d.beginWait(client)
			return d, client
		}
		check := func(when string, c *watchedConn, want int32) {
			t.Helper()
			if got := c.watches.Load(); got != want {
				t.Errorf("%s: got %d watches, want %d", when, got, want)
			}
		}
		soon, soonConn := begin()
		soon.endWait()
		slow, slowConn := begin()
		check("a first request has begun", slowConn, 0)
		time.Sleep(lookoutPeriod + 1)
		synctest.Wait()
		check("a first request waits", slowConn, 1)
		check("a first request was answered soon", soonConn, 0)
		slow.endWait()
		slow.beginWait(slowConn)
		check("the next request of a watched client", slowConn, 1)
		soon.beginWait(soonConn)
		check("a second request has begun", soonConn, 1)

		_, late := begin() // after a look that has found nobody
		time.Sleep(lookoutPeriod + 1)
		synctest.Wait()
		check("another first request waits", late, 1)
	})
}
