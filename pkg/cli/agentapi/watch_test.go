package agentapi

import (
	"bufio"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
)

// TestWatchFigures reads the stream until it has the calls.
func TestWatchFigures(t *testing.T) {
	web, db := workload("web", "node-1"), workload("db", "node-2")
	one, two := startNode(t, "node-1", web), startNode(t, "node-2", db)
	call(one, two, web, db, 200, nil)
	server := httptest.NewServer(api(one, two).Handler())
	defer server.Close()
	response, err := http.Get(server.URL + "/watch/namespaces/shop/figures?window=1m")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != tapv1alpha1.MediaFigures {
		t.Fatalf("%s, %v; want 200 and figures", response.Status, response.Header)
	}
	for in := bufio.NewReader(response.Body); ; {
		line, err := in.ReadString('\n')
		var f tapv1alpha1.Figures
		if err == nil {
			err = json.Unmarshal([]byte(line), &f)
		}
		if err != nil || f.Kind != "Figures" || f.End.Sub(f.Start) != time.Minute {
			t.Fatalf("%v: %s, want a minute of figures", err, line)
		}
		if got := edges(&f); len(got) > 0 { // the first answer is of the time before the call
			if !slices.Equal(got, []string{"web>db 1"}) {
				t.Errorf("%q, want the call", got)
			}
			break
		}
	}
	for _, path := range []string{"/watch/figures?window=1h", "/watch/figures?end=2026-01-01T00:00:00Z", "/watch/figures?by=x", "/watch/figures?kind=web"} {
		var status struct{ Code int }
		if code := get(t, api(one, two), path, &status); code != http.StatusBadRequest || status.Code != code {
			t.Errorf("%s: %d, want 400", path, code)
		}
	}
}
