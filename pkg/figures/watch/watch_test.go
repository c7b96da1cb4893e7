package watch

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// asked notes the questions that a hub asks.
type asked struct {
	mu    sync.Mutex
	times []string // when, and the time that the question is of, since the start
	fail  atomic.Bool
}

func (a *asked) hub(start time.Time) *Hub {
	return &Hub{Ask: func(_ context.Context, q tapv1alpha1.FiguresQuery) (any, error) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.times = append(a.times, fmt.Sprintf("%v: %v to %v", time.Since(start), q.End.Add(-q.Window).Sub(start), q.End.Sub(start)))
		if a.fail.Load() {
			return nil, errors.New("no agent answers")
		}
		return map[string]string{"of": q.Namespace, "until": q.End.Sub(start).String()}, nil
	}}
}

func query(t *testing.T, text string) (tapv1alpha1.FiguresQuery, time.Duration) {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "/figures?"+text, nil)
	q, err := tapv1alpha1.ParseFigures(r.URL.Query())
	if err != nil {
		t.Fatal(err)
	}
	q, every, err := Query(q, r.URL.Query().Has("window"))
	if err != nil {
		t.Fatal(err)
	}
	return q, every
}

// reader watches, and notes the lines.
type reader struct {
	mu    sync.Mutex
	lines []string
	err   error
	stop  context.CancelFunc
	done  chan struct{}
	block chan struct{} // if not nil, each line waits for it
}

func start(h *Hub, user string, q tapv1alpha1.FiguresQuery, every time.Duration, block chan struct{}) *reader {
	ctx, cancel := context.WithCancel(context.Background())
	r := &reader{stop: cancel, done: make(chan struct{}), block: block}
	go func() {
		defer close(r.done)
		r.err = h.Watch(ctx, user, q, every, func(line []byte) error {
			if r.block != nil {
				<-r.block
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			r.lines = append(r.lines, strings.TrimSpace(string(line)))
			return nil
		})
	}()
	return r
}

func (r *reader) end() error {
	r.stop()
	<-r.done
	return r.err
}

func TestQuery(t *testing.T) {
	for text, want := range map[string][3]time.Duration{ // window, step, every
		"":                   {10 * time.Second, 0, 10 * time.Second},
		"step=60":            {time.Minute, 0, time.Minute},
		"window=5m":          {5 * time.Minute, 0, 10 * time.Second},
		"window=15m&step=30": {15 * time.Minute, 30 * time.Second, 30 * time.Second},
	} {
		q, every := query(t, text)
		if diff := cmp.Diff(want, [3]time.Duration{q.Window, q.Step, every}); diff != "" {
			t.Errorf("%q (-want +got):\n%s", text, diff)
		}
	}
	for _, q := range []tapv1alpha1.FiguresQuery{{End: time.Unix(1, 0), Window: time.Minute}, {Window: time.Hour}} {
		if _, _, err := Query(q, true); err == nil {
			t.Errorf("%+v: no error", q)
		}
	}
}

// TestShared: watchers of one question share its answers, and the last one ends it.
func TestShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		a := &asked{}
		h := a.hub(began)
		q, every := query(t, "step=60&namespace=shop")
		time.Sleep(time.Minute + 13*time.Second)
		first := start(h, "ann", q, every, nil)
		synctest.Wait()
		second := start(h, "bob", q, every, nil)
		time.Sleep(2 * time.Minute)
		want := []string{`{"of":"shop","until":"1m0s"}`, `{"of":"shop","until":"2m0s"}`, `{"of":"shop","until":"3m0s"}`}
		for _, r := range []*reader{first, second} {
			if err := r.end(); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			if diff := cmp.Diff(want, r.lines); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		}
		time.Sleep(time.Hour)
		if diff := cmp.Diff([]string{"1m13s: 0s to 1m0s", "2m3s: 1m0s to 2m0s", "3m3s: 2m0s to 3m0s"}, a.times); diff != "" {
			t.Errorf("questions (-want +got):\n%s", diff)
		}
		if watchers, questions := h.Watchers(); watchers+questions+len(h.users) > 0 {
			t.Errorf("%d watchers of %d questions are left", watchers, questions)
		}
	})
}

// TestSlowWatcher: one that does not read gets the newest line, and holds up no other.
func TestSlowWatcher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		h := (&asked{}).hub(began)
		q, every := query(t, "")
		block := make(chan struct{})
		slow, fast := start(h, "ann", q, every, block), start(h, "ann", q, every, nil)
		time.Sleep(55 * time.Second)
		close(block)
		synctest.Wait()
		_, _ = slow.end(), fast.end()
		if len(fast.lines) != 7 || len(slow.lines) != 2 || slow.lines[1] != fast.lines[6] {
			t.Errorf("%q and %q, want seven lines, and the first and the last of them", fast.lines, slow.lines)
		}
	})
}

// TestFailure: agents that cannot be asked cost a line, not the stream.
func TestFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &asked{}
		h := a.hub(time.Now())
		q, every := query(t, "")
		a.fail.Store(true)
		r := start(h, "ann", q, every, nil)
		time.Sleep(time.Second)
		a.fail.Store(false)
		time.Sleep(10 * time.Second)
		_ = r.end()
		var status struct {
			Kind, Message string
			Code          int
		}
		if len(r.lines) != 2 || json.Unmarshal([]byte(r.lines[0]), &status) != nil || status.Kind != "Status" || status.Code != 503 || status.Message != "no agent answers" {
			t.Errorf("%q, want a Status and then an answer", r.lines)
		}
	})
}

func TestLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := (&asked{}).hub(time.Now())
		q, every := query(t, "")
		var all []*reader
		add := func(user, namespace string) error {
			q.Namespace = namespace
			r := start(h, user, q, every, nil)
			synctest.Wait()
			select {
			case <-r.done:
				return r.err
			default:
				all = append(all, r)
				return nil
			}
		}
		for i := range MaxOfUser {
			if err := add("ann", fmt.Sprint("ns-", i%MaxQuestionsUser)); err != nil {
				t.Fatal(i, err)
			}
		}
		if err := add("ann", "ns-0"); !errors.Is(err, ErrTooMany) {
			t.Errorf("one watcher too many of a user: %v", err)
		}
		_ = all[len(all)-1].end()
		if err := add("ann", "other"); !errors.Is(err, ErrTooMany) {
			t.Errorf("one question too many of a user: %v", err)
		}
		// What others watch already costs no question.
		if err := add("bob", "ns-0"); err != nil {
			t.Error(err)
		}
		for i := range MaxQuestions - MaxQuestionsUser {
			if err := add(fmt.Sprint("user-", i/8), fmt.Sprint("more-", i)); err != nil {
				t.Fatal(i, err)
			}
		}
		if err := add("carl", "new"); !errors.Is(err, ErrTooMany) {
			t.Errorf("one question too many: %v", err)
		}
		for i := range MaxWatchers {
			if err := add(fmt.Sprint("late-", i), "ns-0"); err != nil {
				if watchers, _ := h.Watchers(); watchers != MaxWatchers || !errors.Is(err, ErrTooMany) {
					t.Errorf("%d watchers: %v, want %d", watchers, err, MaxWatchers)
				}
				break
			}
		}
		for _, r := range all {
			_ = r.end()
		}
	})
}

// TestServe reads a stream over HTTP, until its reader is gone.
func TestServe(t *testing.T) {
	h := (&asked{}).hub(time.Now())
	gone := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(gone)
		q, every := query(t, r.URL.RawQuery)
		if err := h.Serve(w, r, "ann", q, every); err != nil {
			t.Error(err)
		}
	}))
	defer server.Close()
	response, err := http.Get(server.URL + "?namespace=shop")
	if err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(response.Body).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, `{"of":"shop"`) || response.Header.Get("Content-Type") != tapv1alpha1.MediaFigures {
		t.Errorf("%q %v %v, want a line", line, err, response.Header)
	}
	_ = response.Body.Close()
	<-gone
	http.DefaultClient.CloseIdleConnections()
}
