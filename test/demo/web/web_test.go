package web_test

import (
	"bufio"
	"context"
	"encoding/json"
	"html"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/underlane/underlane/test/demo/banner"
	"github.com/underlane/underlane/test/demo/catalog"
	"github.com/underlane/underlane/test/demo/demotest"
	"github.com/underlane/underlane/test/demo/serve"
	"github.com/underlane/underlane/test/demo/web"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func get(t *testing.T, url string) (status int, body string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(data)
}

func getJSON[T any](t *testing.T, url string) (value T) {
	t.Helper()
	status, body := get(t, url)
	if status != http.StatusOK {
		t.Fatalf("%s: got %d %s, want 200", url, status, body)
	}
	if err := json.Unmarshal([]byte(body), &value); err != nil {
		t.Fatalf("%s: got %v, want JSON: %s", url, err, body)
	}
	return value
}

func TestListIsTheBallotInOrder(t *testing.T) {
	var want []web.Choice
	for _, e := range catalog.All {
		want = append(want, web.Choice{Shortcode: e.Shortcode, Unicode: e.Unicode})
	}
	got := getJSON[[]web.Choice](t, demotest.Start(t).URL+"/api/list")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestVotesCount(t *testing.T) {
	app := demotest.Start(t)
	if got := getJSON[[]web.Standing](t, app.URL+"/api/leaderboard"); len(got) != 0 {
		t.Errorf("before the first vote: got %v, want no votes", got)
	}
	for _, choice := range []string{":pizza:", ":100:", ":pizza:"} {
		getJSON[any](t, app.URL+"/api/vote?choice="+choice)
	}
	want := []web.Standing{
		{Choice: web.Choice{Shortcode: ":pizza:", Unicode: "🍕"}, Votes: 2},
		{Choice: web.Choice{Shortcode: ":100:", Unicode: "💯"}, Votes: 1},
	}
	got := getJSON[[]web.Standing](t, app.URL+"/api/leaderboard")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestEveryEmojiButTheDoughnutTakesAVote(t *testing.T) {
	app := demotest.Start(t)
	for _, e := range catalog.All {
		want := http.StatusOK
		if e.Shortcode == catalog.Doughnut {
			want = http.StatusInternalServerError
		}
		if got, body := get(t, app.URL+"/api/vote?choice="+e.Shortcode); got != want {
			t.Errorf("%s: %d %s, want %d", e.Shortcode, got, body, want)
		}
	}
}

func TestVoteForNothingOnTheBallot(t *testing.T) {
	app := demotest.Start(t)
	for _, choice := range []string{"", ":nope:", "pizza"} {
		if got, body := get(t, app.URL+"/api/vote?choice="+choice); got != http.StatusNotFound || !strings.Contains(body, "ballot") {
			t.Errorf("vote for %q: got %d %s, want 404 and a word about the ballot", choice, got, body)
		}
	}
}

func TestPageHasEveryEmojiAndTheGreeting(t *testing.T) {
	app := demotest.Start(t)
	status, page := get(t, app.URL+"/")
	page = html.UnescapeString(page)
	if status != http.StatusOK || !strings.Contains(page, banner.Greeting) {
		t.Errorf("got status %d, want 200 and the greeting in the page:\n%s", status, page)
	}
	for _, e := range catalog.All {
		if !strings.Contains(page, e.Unicode) || !strings.Contains(page, `data-choice="`+e.Shortcode+`"`) {
			t.Errorf("got a page without %s %s, want them in it", e.Shortcode, e.Unicode)
		}
	}
	for _, part := range []string{"/static/app.js", "/static/style.css"} {
		if status, _ := get(t, app.URL+part); status != http.StatusOK || !strings.Contains(page, part) {
			t.Errorf("%s: got status %d, want 200 and a link to it in the page", part, status)
		}
	}
}

func TestEventsFollowTheVotes(t *testing.T) {
	app := demotest.Start(t)
	resp, err := http.Get(app.URL + "/api/events")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	next := func() string {
		for lines.Scan() {
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				return data
			}
		}
		return "end of stream"
	}
	if got := next(); got != "[]" {
		t.Errorf("first event: got %s, want []", got)
	}
	getJSON[any](t, app.URL+"/api/vote?choice=:crab:")
	if got, want := next(), `[{"shortcode":":crab:","unicode":"🦀","votes":1}]`; got != want {
		t.Errorf("second event: %s, want %s", got, want)
	}
}

// TestBackendsAway checks that a gRPC call without a server ends with the page's
// timeout, and that the health check does not depend on backends.
func TestBackendsAway(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close() // from here on the address has no listener
	conn, err := serve.Dial(ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	handler := web.New(conn, conn, "").Handler()
	for path, want := range map[string]int{
		"/healthz": http.StatusOK, "/api/list": http.StatusGatewayTimeout, "/nope": http.StatusNotFound,
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, httptest.NewRequestWithContext(ctx, http.MethodGet, path, nil))
		cancel()
		if answer.Code != want {
			t.Errorf("%s: %d %s, want %d", path, answer.Code, answer.Body, want)
		}
	}
}
