package check

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func ask(t *testing.T, h http.Handler) (a Answer) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/check", nil))
	if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil || w.Code != http.StatusOK {
		t.Errorf("%d %v: %s", w.Code, err, w.Body)
	}
	return a
}

func TestHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runs := 0
		h := Handler("group/v1", func() []Category {
			runs++
			return []Category{{Name: "one", Probes: []Probe{
				{Name: "well", Run: func(context.Context) error { time.Sleep(time.Second); return nil }},
				{Name: "poor", Hint: "look", Run: func(context.Context) error { return Warn(errors.New("hm")) }},
				{Name: "bad", Run: func(context.Context) error { return Hinted(errors.New("no"), "do it") }},
			}}, {Name: "none"}}
		})
		var wg sync.WaitGroup
		for range 5 { // together
			wg.Go(func() {
				got := ask(t, h)
				want := Answer{Kind: "Check", APIVersion: "group/v1", Time: got.Time, Categories: []AnswerCategory{{Name: "one", Checks: []AnswerCheck{
					{Description: "well", Result: "ok"},
					{Description: "poor", Result: "warning", Message: "hm", Hint: "look"},
					{Description: "bad", Result: "error", Message: "no", Hint: "do it"},
				}}, {Name: "none", Checks: []AnswerCheck{}}}}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Error("(-want +got):", diff)
				}
			})
		}
		wg.Wait()
		if runs != 1 {
			t.Errorf("the checks ran %d times for questions at the same time, want once", runs)
		}
		time.Sleep(answerAge + time.Second)
		ask(t, h)
		if runs != 2 {
			t.Errorf("the checks ran %d times, want again for a later question", runs)
		}
	})
}

// A caller that gives up keeps no other from an answer, and its run is no result.
func TestHandlerWithoutCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := Handler("group/v1", func() []Category {
			return []Category{{Name: "slow", Probes: []Probe{{Name: "slow", Run: func(ctx context.Context) error {
				select {
				case <-time.After(time.Minute / 4):
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			}}}}}
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil))
		if w.Body.Len() > 0 {
			t.Errorf("a caller that has gone got %s", w.Body)
		}
		if got := ask(t, h); !got.Success {
			t.Errorf("%+v, want success", got)
		}
	})
	w := httptest.NewRecorder()
	Handler("", nil).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d, want 405", w.Code)
	}
}
