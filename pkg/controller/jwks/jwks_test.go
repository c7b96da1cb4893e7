package jwks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/underlane/underlane/pkg/policy/authz"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	first  = `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"1","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`
	second = `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"2","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},{"kty":"oct","k":"AA"}]}`
)

// issuer answers requests for its keys.
type issuer struct {
	mu    sync.Mutex
	text  string // "": it is away
	asked int
	slow  bool
}

func (i *issuer) set(text string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.text = text
}

func (i *issuer) count() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.asked
}

func (i *issuer) RoundTrip(r *http.Request) (*http.Response, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.asked++
	if i.slow {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	if i.text == "" {
		return nil, errors.New("away")
	}
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(i.text)), Header: http.Header{}}, nil
}

func specs(sources ...string) map[string]*authz.Spec {
	out := map[string]*authz.Spec{}
	for i, at := range sources {
		out[fmt.Sprint("pod", i)] = &authz.Spec{Tokens: []authz.TokenRule{{Policy: "p", Source: at}}}
	}
	return out
}

func run(t *testing.T, i *issuer) *Keys {
	t.Helper()
	k := New(i, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- k.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	return k
}

// key returns the name of the key that a rule has now.
func key(k *Keys, at string) (name, problem string) {
	s := specs(at)
	for _, p := range k.Fill(s) {
		problem += p.Text
	}
	if _, after, ok := strings.Cut(s["pod0"].Tokens[0].Keys, `"kid":"`); ok {
		name, _, _ = strings.Cut(after, `"`)
	}
	return name, problem
}

const at = "https://issuer/keys"

// TestRotation: keys are fetched at an interval, and earlier for a key that is not known, but
// no faster than a bound.
func TestRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{text: first}
		k := run(t, i)
		if name, problem := key(k, at); name != "" || problem != "" {
			t.Errorf("before the first fetch: %q, %q", name, problem)
		}
		k.Await(t.Context())
		if name, problem := key(k, at); name != "1" || problem != "" {
			t.Errorf("got key %q, %q", name, problem)
		}
		<-k.Changes()
		i.set(second)
		for range 1000 {
			k.Stale(at)
		}
		k.Stale("https://another/")
		time.Sleep(StalePause - time.Second)
		if i.count() != 1 {
			t.Errorf("fetched %d times within the pause, want once", i.count())
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if name, _ := key(k, at); name != "2" || i.count() != 2 {
			t.Errorf("after the pause: key %q, fetched %d times", name, i.count())
		}
		<-k.Changes()
		i.set(first)
		time.Sleep(Refresh)
		synctest.Wait()
		if name, _ := key(k, at); name != "1" || i.count() != 3 {
			t.Errorf("after the interval: key %q, fetched %d times", name, i.count())
		}
	})
}

// TestAway: the keys that were fetched last stay while the issuer is away, or sends something
// else.
func TestAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{}
		k := run(t, i)
		key(k, at)
		k.Await(t.Context())
		if name, problem := key(k, at); name != "" || !strings.Contains(problem, "away: no token is good") {
			t.Errorf("got %q, %q", name, problem)
		}
		time.Sleep(time.Hour)
		if n := i.count(); n > 30 {
			t.Errorf("tried %d times in an hour", n)
		}
		i.set(first)
		time.Sleep(RetryMost + time.Second)
		synctest.Wait()
		if name, problem := key(k, at); name != "1" || problem != "" {
			t.Fatalf("it is back: %q, %q", name, problem)
		}
		for _, bad := range []string{"", "no JSON", `{"keys":[]}`, `{"keys":[{"kty":"oct","k":"AA"}]}`, strings.Repeat(" ", 1<<20)} {
			i.set(bad)
			time.Sleep(Refresh + RetryMost)
			synctest.Wait()
			if name, problem := key(k, at); name != "1" || !strings.Contains(problem, "stay in force") {
				t.Errorf("%.20q: %q, %q", bad, name, problem)
			}
		}
		i.mu.Lock()
		i.slow = true
		i.mu.Unlock()
		ctx, cancel := context.WithTimeout(t.Context(), 2*Timeout)
		defer cancel()
		if key(k, "https://slow/"); ctx.Err() != nil {
			t.Error("Fill waits for the issuer")
		}
	})
}

// TestTimeouts: a fetch takes as long as the rules of its address allow, within a bound.
func TestTimeouts(t *testing.T) {
	for name, tc := range map[string]struct {
		rules []time.Duration
		want  time.Duration
	}{
		"none":              {[]time.Duration{0}, Timeout},
		"short":             {[]time.Duration{time.Second}, time.Second},
		"the longest holds": {[]time.Duration{time.Second, 7 * time.Second}, 7 * time.Second},
		"one has none":      {[]time.Duration{time.Second, 0}, Timeout},
		"too long":          {[]time.Duration{time.Hour}, MaxTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := run(t, &issuer{slow: true})
				spec := &authz.Spec{}
				for _, timeout := range tc.rules {
					spec.Tokens = append(spec.Tokens, authz.TokenRule{Policy: "p", Source: at, Timeout: timeout})
				}
				began := time.Now()
				k.Fill(map[string]*authz.Spec{"pod": spec})
				k.Await(t.Context())
				if took := time.Since(began); took != tc.want {
					t.Errorf("it is given up after %v, want %v", took, tc.want)
				}
			})
		})
	}
}

func TestSources(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{text: first}
		k := run(t, i)
		var many []string
		for n := range MaxSources + 10 {
			many = append(many, fmt.Sprintf("https://issuer/%04d", n))
		}
		all := specs(many...)
		if problems := k.Fill(all); len(problems) != 10 {
			t.Errorf("%d problems, want 10", len(problems))
		}
		k.Await(t.Context())
		k.Fill(all)
		keys := 0
		for _, s := range all {
			if s.Tokens[0].Keys != "" {
				keys++
			}
		}
		if keys != MaxSources || i.count() != MaxSources {
			t.Errorf("%d of %d rules have keys, after %d requests", keys, len(all), i.count())
		}
		k.Fill(nil)
		if len(k.sources) != 0 {
			t.Errorf("%d sources are kept that nobody wants", len(k.sources))
		}
	})
}

// TestFetch: over real connections.
func TestFetch(t *testing.T) {
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	defer server.Close()
	text := func(path, text string) {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, text) })
	}
	text("/keys", second)
	text("/a"+Discovery, `{"issuer":"x","jwks_uri":"`+server.URL+`/keys"}`)
	text("/b"+Discovery, `{}`)
	text("/c"+Discovery, `{"jwks_uri":"file:///etc/passwd"}`)
	text("/large", strings.Repeat(" ", 1<<20))
	mux.Handle("/moved", http.RedirectHandler("/keys", http.StatusFound))
	mux.Handle("/loop", http.RedirectHandler("/loop", http.StatusFound))
	mux.Handle("/metadata", http.RedirectHandler("http://169.254.169.254/", http.StatusFound))
	transport := Transport()
	defer transport.(*http.Transport).CloseIdleConnections()
	k := New(transport, slog.New(slog.DiscardHandler))
	for path, good := range map[string]bool{
		"/keys": true, "/a" + Discovery: true, "/moved": true,
		"/b" + Discovery: false, "/c" + Discovery: false, "/large": false, "/loop": false, "/metadata": false, "/absent": false,
	} {
		keys, others, err := k.fetch(t.Context(), server.URL+path, Timeout)
		if (err == nil) != good || good != strings.Contains(keys, `"kid":"2"`) || good && others != 1 {
			t.Errorf("%s: got %s, %d others, %v; want it good: %v", path, keys, others, err, good)
		}
	}
	for _, bad := range []string{"", "x", "ftp://a/", "https://user:password@a/", "https:///x", "https://a/" + strings.Repeat("x", maxURL)} {
		if Check(bad) == nil {
			t.Errorf("%q is an address to fetch keys from", bad)
		}
	}
}
