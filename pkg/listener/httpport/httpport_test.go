package httpport

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// get makes a request that comes from an address.
func get(h http.Handler, from string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, "/metrics?name[]=x", nil)
	r = r.WithContext(context.WithValue(r.Context(), sourceKey{}, netip.MustParseAddr(from)))
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	return rec
}

// TestCached: however many read, the response is made once in a second; it is made anew
// for who reads on the node itself.
func TestCached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		made := 0
		h := Cached(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			made++
			if r.URL.RawQuery != "" {
				t.Errorf("the query %q is passed on", r.URL.RawQuery)
			}
			w.Header().Set("Content-Type", r.Header.Get("Accept"))
			fmt.Fprint(w, made)
		}))
		expect := func(want string, rec *httptest.ResponseRecorder) {
			t.Helper()
			if got := rec.Body.String(); got != want || rec.Code != http.StatusOK || rec.Header().Get("Content-Length") != fmt.Sprint(len(want)) {
				t.Errorf("got %d %q %v, want %q", rec.Code, got, rec.Header(), want)
			}
		}
		expect("1", get(h, "10.0.0.1"))
		time.Sleep(Fresh - time.Nanosecond)
		expect("1", get(h, "10.0.0.2", "Accept", "text/html, anything/else"))
		time.Sleep(time.Nanosecond)
		expect("2", get(h, "10.0.0.2"))
		expect("3", get(h, "127.0.0.1"))
		expect("4", get(h, "127.0.0.1"))
		expect("4", get(h, "10.0.0.1"))
		// The representations are kept apart, and there are few.
		rec := get(h, "10.0.0.1", "Accept", openMetrics+";version=0.0.1")
		expect("5", rec)
		if got := rec.Header().Get("Content-Type"); got != openMetrics+";version=1.0.0" {
			t.Errorf("Content-Type %q", got)
		}
		for i := range 100 {
			get(h, "10.0.0.1", "Accept", fmt.Sprintf("%s;q=0.%d", openMetrics, i), "Accept-Encoding", fmt.Sprintf("gzip;q=0.%d", i))
		}
		if made != 6 {
			t.Errorf("made %d times, want 6", made)
		}
	})
}

// TestCachedOnce: those who ask at the same moment get one response.
func TestCachedOnce(t *testing.T) {
	var made atomic.Int32
	h := Cached(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		made.Add(1)
		http.Error(w, "not now", http.StatusInternalServerError)
	}))
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if rec := get(h, "10.0.0.1"); rec.Code != http.StatusInternalServerError {
				t.Errorf("%d, want the handler's 500", rec.Code)
			}
		})
	}
	wg.Wait()
	if made.Load() != 1 {
		t.Errorf("made %d times, want once", made.Load())
	}
}

// TestRequestRate: an address has a burst and a rate, others have theirs, and the node's
// own requests have none.
func TestRequestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := New().Server(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})).Handler
		answered := func(from string, n int) (ok int) {
			for range n {
				switch rec := get(h, from); rec.Code {
				case http.StatusOK:
					ok++
				case http.StatusTooManyRequests:
					if rec.Header().Get("Connection") != "close" {
						t.Fatal("a refused client keeps its connection")
					}
				default:
					t.Fatalf("status %d", rec.Code)
				}
			}
			return ok
		}
		if got := answered("10.0.0.1", 1000); got != burst {
			t.Errorf("at once: %d answered, want %d", got, burst)
		}
		time.Sleep(time.Second)
		if got := answered("10.0.0.1", 1000); got != perSecond {
			t.Errorf("a second later: %d answered, want %d", got, perSecond)
		}
		if got := answered("10.0.0.2", 1); got != 1 {
			t.Error("another address is refused")
		}
		if got := answered("::1", 1000); got != 1000 {
			t.Errorf("over loopback: %d of 1000 answered", got)
		}
	})
}

// TestIdleConnectionsAreBounded: clients that only hold connections open take neither
// descriptors without end, nor the turn of probes.
func TestIdleConnectionsAreBounded(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := New()
	srv := port.Server(Cached(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "live") })))
	done := make(chan error, 1)
	go func() { done <- srv.Serve(port.Listen(ln)) }()
	defer func() {
		_ = srv.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	}()
	var held []net.Conn
	for range maxFromOne + 20 {
		conn, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		held = append(held, conn)
	}
	for i, conn := range held[:20] {
		_ = conn.SetReadDeadline(time.Now().Add(3 * time.Second)) // below ReadHeaderTimeout
		if _, err := conn.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("connection %d is kept", i)
		}
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + ln.Addr().String() + "/live")
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal("a probe gets no answer:", err)
	}
	_ = resp.Body.Close()
}

// BenchmarkCached is what one of many readers costs.
func BenchmarkCached(b *testing.B) {
	h := Cached(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		z := gzip.NewWriter(w)
		_, _ = z.Write(make([]byte, 100<<10))
		_ = z.Close()
	}))
	for b.Loop() {
		get(h, "10.0.0.1")
	}
}
