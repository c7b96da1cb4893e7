package tapapi

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
)

// TestWatchFigures: two users watch one question, of which the agents hear once.
func TestWatchFigures(t *testing.T) {
	w, _, _ := twoNamespaces(t)
	w.kube.Allow = func(review authorizationv1.SubjectAccessReviewSpec) bool {
		a := review.ResourceAttributes
		return a.Resource == "figures" && a.Verb == "watch" && a.Namespace == "shop"
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	// The window is long enough for the calls to be in the newest step that has ended, or in
	// the next one.
	path := tapv1alpha1.WatchFiguresPath("shop") + "?window=1m"
	var readers []*bufio.Reader
	for _, user := range []string{"ann", "bob"} {
		resp := w.get(ctx, user, path, tapv1alpha1.MediaFigures)
		if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != tapv1alpha1.MediaFigures {
			t.Fatalf("%s, %v; want 200 and figures", resp.Status, resp.Header)
		}
		readers = append(readers, bufio.NewReader(resp.Body))
	}
	if watchers, questions := w.server.watched.Watchers(); watchers != 2 || questions != 1 {
		t.Errorf("%d watchers of %d questions, want 2 of 1", watchers, questions)
	}
	for _, r := range readers {
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			var f tapv1alpha1.Figures
			if err := json.Unmarshal([]byte(line), &f); err != nil || f.Kind != "Figures" || f.End.Sub(f.Start) != time.Minute || f.End.Unix()%10 != 0 {
				t.Fatalf("%v: %s, want a minute that ends with a step", err, line)
			}
			if len(f.Edges) == 0 {
				continue // of the time before the calls
			}
			if got := strings.Join(lines(&f), "; "); got != "web > db 30 of 40" {
				t.Errorf("%s, want the edge of the namespace", got)
			}
			break
		}
	}
	for path, want := range map[string]int{
		tapv1alpha1.WatchFiguresPath(""):                                   http.StatusForbidden,
		tapv1alpha1.WatchFiguresPath("data"):                               http.StatusForbidden,
		tapv1alpha1.FiguresPath("shop"):                                    http.StatusForbidden, // another verb
		tapv1alpha1.WatchFiguresPath("shop") + "?namespace=data":           http.StatusBadRequest,
		tapv1alpha1.WatchFiguresPath("shop") + "?window=1h":                http.StatusBadRequest,
		tapv1alpha1.WatchFiguresPath("shop") + "?end=2026-01-01T00:00:00Z": http.StatusBadRequest,
		tapv1alpha1.WatchFiguresPath("shop") + "?labelSelector=%21%21":     http.StatusBadRequest,
	} {
		if code, text := w.body("ann", path); code != want {
			t.Errorf("%s: %d %s, want %d", path, code, text, want)
		}
	}
	cancel()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		watchers, questions := w.server.watched.Watchers()
		if watchers+questions == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d watchers of %d questions are left after their readers have gone", watchers, questions)
		}
	}
}
