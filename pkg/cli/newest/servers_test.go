package newest

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ed25519"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/underlane/underlane/internal/version"
	"github.com/underlane/underlane/pkg/release"
)

// What is no answer counts as none: it is ErrUnreachable, and comes within the limit. What
// is an answer and none of a release's server is another error.
func TestBadServers(t *testing.T) {
	const good = `{"channel":"stable","newest":"v0.3.0","releases":[{"version":"v0.3.0","date":"2026-11-30"}]}`
	zeros := make([]byte, 1<<20)
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	for _, err := range []error{second(z.Write(zeros)), z.Close()} {
		if err != nil {
			t.Fatal(err)
		}
	}
	var key ed25519.PrivateKey
	var sent atomic.Int64
	// signed makes the server have text as the file of the channel stable.
	signed := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, release.SignatureSuffix) {
				_, _ = w.Write(ed25519.Sign(key, []byte(text)))
				return
			}
			_, _ = w.Write([]byte(text))
		}
	}
	for _, c := range []struct {
		what   string
		want   string // "" is ErrUnreachable
		handle http.HandlerFunc
	}{
		{what: "no answer", handle: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }},
		{what: "half an answer", handle: func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write([]byte(good[:20]))
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}},
		{what: "an answer that never ends", handle: func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				_, _ = w.Write([]byte(" "))
				_ = http.NewResponseController(w).Flush()
				time.Sleep(10 * time.Millisecond)
			}
		}},
		{what: "cut off", handle: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write([]byte(good))
			panic(http.ErrAbortHandler)
		}},
		{what: "error", handle: func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusBadGateway) }},
		{what: "a circle", handle: func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) }},
		{what: "no HTTP", handle: func(w http.ResponseWriter, _ *http.Request) {
			if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
				_, _ = c.Write([]byte("SSH-2.0-OpenSSH\r\n"))
				_ = c.Close()
			}
		}},
		{what: "1 GiB", want: "has more than 65536 bytes", handle: func(w http.ResponseWriter, _ *http.Request) {
			for range 1 << 10 {
				n, err := w.Write(zeros)
				sent.Add(int64(n))
				if err != nil {
					return
				}
			}
		}},
		{what: "1 MiB, compressed to 1 KiB", want: "has more than 65536 bytes", handle: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(bomb.Bytes())
		}},
		{what: "a page of a portal", want: "signature is wrong", handle: func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>Log in</html>")) }},
		{what: "another key", want: "signature is wrong", handle: func(w http.ResponseWriter, r *http.Request) {
			text := []byte(good)
			if strings.HasSuffix(r.URL.Path, release.SignatureSuffix) {
				text = ed25519.Sign(ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)), text)
			}
			_, _ = w.Write(text)
		}},
		{what: "another channel's file", want: `that of channel "edge"`, handle: signed(strings.ReplaceAll(good, "stable", "edge"))},
		{what: "no date", want: "parsing time", handle: signed(strings.ReplaceAll(good, "2026-11-30", "soon"))},
		{what: "no JSON", want: "invalid character", handle: signed("newest: v0.3.0")},
		{what: "controls of a terminal", want: "is no version of it", handle: signed(strings.ReplaceAll(good, "v0.3.0", `v0.3.0\u001b[2J`))},
	} {
		s := httptest.NewServer(c.handle)
		key = released(t, "v0.2.0", s.URL)
		began := time.Now()
		got, err := Of(t.Context(), release.Stable)
		took := time.Since(began)
		// A machine that is slow may not answer within the limit.
		for range 20 {
			if c.want == "" || !errors.Is(err, context.DeadlineExceeded) {
				break
			}
			got, err = Of(t.Context(), release.Stable)
		}
		switch unreachable := errors.Is(err, ErrUnreachable); {
		case err == nil:
			t.Errorf("%s: got %+v, want an error", c.what, got)
		case unreachable != (c.want == ""), !strings.Contains(err.Error(), c.want):
			t.Errorf("%s: error %v, want one with %q, or that nothing was reached if that is empty", c.what, err, c.want)
		}
		if took > 10*limit { // which leaves a slow machine some time
			t.Errorf("%s: it took %v, want %v", c.what, took, limit)
		}
		s.CloseClientConnections()
		s.Close()
	}
	if n := sent.Load(); n > 512<<20 {
		t.Errorf("%d bytes of 1 GiB were taken, want fewer than 512 MiB", n)
	}
	if limit > 2*time.Second {
		t.Errorf("a command may wait for %v, want 2 s at most", limit)
	}
}

func second(_ int, err error) error { return err }

// A file that is older than this program, or of the future, is no reason to do anything.
func TestOldAndFutureFiles(t *testing.T) {
	released(t, "v0.3.0", "http://127.0.0.1:1")
	for _, c := range []struct{ newest, date, want string }{
		{"v0.2.0", "2020-01-01", ""},
		{"v0.3.0", "2020-01-01", ""},
		{"v0.3.0-edge.9", "2026-11-30", ""},
		{"v0.4.0", "2999-12-31", "v0.4.0 of 2999-12-31"},
	} {
		err := Outdated(release.Channel{Channel: release.Edge, Newest: c.newest, Releases: []release.Release{{Version: c.newest, Date: c.date}}})
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s of %s, and this is %s: %v", c.newest, c.date, version.Version, err)
		}
	}
}
