package l7proxy

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/pkg/l7proxy/balance"
	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/l7proxy/quota"
)

// hangingBackend answers nothing, but to /ok.
func hangingBackend(t testing.TB) (addr string) {
	addr, _ = serveH2C(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/ok" {
			<-r.Context().Done()
		}
	})
	return addr
}

// ask begins a request.
func (f *frames) ask(id uint32, path string) {
	f.t.Helper()
	f.headers(id, true, ":method", "GET", ":scheme", "http", ":path", path, ":authority", "a")
}

// TestH2Deadlines: calls that run into a deadline, however short it is and however many
// they are, cost a client nothing but these calls.
func TestH2Deadlines(t *testing.T) {
	const calls = 200
	for _, deadline := range []time.Duration{0, time.Millisecond, 20 * time.Millisecond, 50 * time.Millisecond} {
		t.Run(fmt.Sprint(deadline), func(t *testing.T) {
			e := newEnv(t)
			c := dialFrames(t, e.to(hangingBackend(t)))
			id := uint32(1)
			for range quota.VainBurst / calls { // so many pass at once
				first := id
				for range calls {
					c.ask(id, "/")
					id += 2
				}
				c.ping()
				time.Sleep(deadline)
				for old := first; old < id; old += 2 {
					c.must(c.fr.WriteRSTStream(old, xhttp2.ErrCodeCancel))
				}
				c.ping()
			}
			c.ask(id, "/ok")
			if got := c.next(); !strings.HasPrefix(got, fmt.Sprintf("HEADERS %d :status=200 ", id)) {
				t.Errorf("got %s, want an answer to stream %d", got, id)
			}
			if got := e.proxy.LimitHits()["http2-resets"]; got != 0 {
				t.Errorf("got %d resets over the limit, want 0", got)
			}
		})
	}
}

// rapidReset is a client's requests, each given up at once, as bytes.
func (f *frames) rapidReset(first uint32, n int) []byte {
	var b bytes.Buffer
	fr := xhttp2.NewFramer(&b, nil)
	for id := first; n > 0; id, n = id+2, n-1 {
		_ = fr.WriteHeaders(xhttp2.HeadersFrameParam{
			StreamID: id, EndStream: true, EndHeaders: true,
			BlockFragment: f.encode(":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a"),
		})
		_ = fr.WriteRSTStream(id, xhttp2.ErrCodeCancel)
	}
	return b.Bytes()
}

// TestH2RapidReset (CVE-2023-44487): where the clients of a pod have given up more requests
// than they may, the next client that does waits until its turn, and is not cut. A client
// of the pod that gives up none does not wait.
func TestH2RapidReset(t *testing.T) {
	const owed = 3 * time.Second
	e := newEnv(t)
	to := e.to(hangingBackend(t))
	other, c := dialFrames(t, to), dialFrames(t, to)
	other.ping() // a session that begins when the limit is reached waits, too
	c.ping()
	began, now := time.Now(), balance.Now()
	e.proxy.core.Paces.Add(quota.PodSource(e.local.UID), now, quota.VainBurst+int(owed.Seconds())*quota.VainRate)
	const requests = 100
	if _, err := c.nc.Write(c.rapidReset(1, requests)); err != nil {
		t.Fatal(err)
	}
	proxytest.Eventually(t, "the limit is reached", func() bool { return e.proxy.LimitHits()["http2-resets"] == requests })
	const next = 2*requests + 1
	c.ask(next, "/ok")
	other.ask(1, "/ok")
	other.next()
	if took := time.Since(began); took >= owed {
		t.Errorf("the client that gave up nothing was answered after %v, want at once", took)
	}
	if got, want := c.next(), fmt.Sprintf("HEADERS %d :status=200 ", next); !strings.HasPrefix(got, want) {
		t.Errorf("got %s, want %s", got, want)
	}
	if took := time.Since(began); took < owed {
		t.Errorf("the client that gave up requests was read after %v, want at least %v", took, owed)
	}
	if got := e.proxy.LimitHits()["http2-flood"]; got != 0 {
		t.Errorf("got %d clients sent away, want 0", got)
	}
}

// TestH2Abandoned: requests that a client gives up by closing its connection count as those
// that it resets. The pod's next session waits for its turn, and is then served; clients of
// others do not wait. The count outlives the pod's last connection.
func TestH2Abandoned(t *testing.T) {
	const streams, owed = 1000, time.Second
	e := newEnv(t)
	to := e.to(hangingBackend(t))
	c := dialFrames(t, to)
	for i := range uint32(streams) {
		c.ask(2*i+1, "/")
	}
	c.ping()
	paces, source, now := &e.proxy.core.Paces, quota.PodSource(e.local.UID), balance.Now()
	before := paces.Add(source, now, quota.VainBurst+int(owed.Seconds())*quota.VainRate)
	c.nc.Close()
	proxytest.Eventually(t, "the session is over", func() bool { return e.proxy.h2.Stats().Sessions == 0 })
	after := paces.Add(source, now, 1)
	if want := before + streams*time.Second/quota.VainRate; after < want {
		t.Errorf("the next session waits %v, and %v before; want at least %v", after, before, want)
	}
	if wait := paces.Start(quota.PodSource("another"), now); wait != 0 {
		t.Errorf("a session of another pod waits %v, want 0", wait)
	}
	c = dialFrames(t, to)
	c.ask(1, "/ok")
	if got, want := c.next(), "HEADERS 1 :status=200 "; !strings.HasPrefix(got, want) {
		t.Errorf("got %s, want %s", got, want)
	}
	if took := balance.Now() - now; took < after {
		t.Errorf("the next session was served after %v, want at least %v", took, after)
	}
}

// TestH2PacedEnds: a client that waits for its turn does not keep the proxy from closing
// its connection.
func TestH2PacedEnds(t *testing.T) {
	e := newEnv(t)
	c := dialFrames(t, e.to(hangingBackend(t)))
	c.ping()
	e.proxy.core.Paces.Add(quota.PodSource(e.local.UID), balance.Now(), quota.VainBurst+120*quota.VainRate)
	if _, err := c.nc.Write(c.rapidReset(1, 1)); err != nil {
		t.Fatal(err)
	}
	proxytest.Eventually(t, "the client waits", func() bool { return e.proxy.LimitHits()["http2-resets"] == 1 })
	e.proxy.h2.CloseAll()
	proxytest.Eventually(t, "the session is over", func() bool { return e.proxy.h2.Stats().Sessions == 0 })
}

// BenchmarkH2RapidReset is what one pod costs whose clients give up requests as fast as
// they can. The processor time is that of the clients as well, which is little.
func BenchmarkH2RapidReset(b *testing.B) {
	const clients = 16
	e := newEnv(b)
	e.proxy.core.Tap = unwatched{}
	to := e.to(sink(b))
	var flooding sync.WaitGroup
	stop := make(chan struct{})
	for range clients {
		c := dialFrames(b, to)
		flooding.Go(func() {
			for id := uint32(1); ; id += 2000 {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := c.nc.Write(c.rapidReset(id, 1000)); err != nil {
					return
				}
			}
		})
	}
	time.Sleep(time.Second) // the burst
	before, began := cpu(b), time.Now()
	for b.Loop() {
		time.Sleep(time.Second)
	}
	b.ReportMetric(float64((cpu(b)-before).Milliseconds())/time.Since(began).Seconds(), "cpu-ms/s")
	close(stop)
	e.proxy.h2.CloseAll()
	flooding.Wait()
}

// sink is an endpoint that reads requests and knows nothing of them.
func sink(t testing.TB) (addr string) {
	return serveConns(t, func(nc net.Conn) {
		if xhttp2.NewFramer(nc, nil).WriteSettings() == nil {
			_, _ = io.Copy(io.Discard, nc)
		}
	})
}

// cpu is the processor time of this process.
func cpu(t testing.TB) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// ping fails unless the peer answers, and nothing else comes before.
func (f *frames) ping() {
	f.t.Helper()
	f.must(f.fr.WritePing(false, [8]byte{}))
	for {
		fr, err := f.fr.ReadFrame()
		f.must(err)
		switch fr := fr.(type) {
		case *xhttp2.PingFrame:
			return
		case *xhttp2.SettingsFrame, *xhttp2.WindowUpdateFrame:
		default:
			f.t.Fatalf("got %v, want a PING", fr)
		}
	}
}
