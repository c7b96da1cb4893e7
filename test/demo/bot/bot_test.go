package bot

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/underlane/underlane/test/demo/catalog"
	"github.com/underlane/underlane/test/demo/demotest"
	"github.com/underlane/underlane/test/demo/web"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pipeTransport serves requests with handler, in memory, so that the time is
// synctest's.
type pipeTransport struct{ handler http.Handler }

func (p pipeTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	answer := httptest.NewRecorder()
	p.handler.ServeHTTP(answer, r)
	return answer.Result(), nil
}

func TestRateAndShareOfDoughnuts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mux := http.NewServeMux()
		var votes, doughnuts, early int
		mux.HandleFunc("/api/list", func(w http.ResponseWriter, _ *http.Request) {
			if early++; early < 3 {
				http.Error(w, "not yet", http.StatusServiceUnavailable)
				return
			}
			json.NewEncoder(w).Encode([]web.Choice{{Shortcode: ":pizza:"}, {Shortcode: ":100:"}})
		})
		mux.HandleFunc("/api/vote", func(w http.ResponseWriter, r *http.Request) {
			votes++
			if r.FormValue("choice") == catalog.Doughnut {
				doughnuts++
				w.WriteHeader(http.StatusInternalServerError)
			}
			w.Write([]byte("{}"))
		})
		mux.HandleFunc("/api/events", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		// The end is between two votes, so that it interrupts none.
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Second+10*time.Millisecond)
		defer cancel()
		b := &Bot{Web: "http://web", Rate: 20, transport: pipeTransport{mux}}
		if err := b.Run(ctx); err != nil {
			t.Fatal(err)
		}
		// The wait for the list took one second.
		if votes < 1950 || votes > 1981 {
			t.Errorf("%d votes in 99 s, want 20 per second", votes)
		}
		if share := float64(doughnuts) / float64(votes); share < 0.10 || share > 0.20 {
			t.Errorf("share of doughnuts %.2f, want 0.15", share)
		}
		if b.failed != doughnuts || b.voted != votes-doughnuts {
			t.Errorf("the bot counted %d good and %d failed votes, want %d in all and a failure for each of %d doughnuts", b.voted, b.failed, votes, doughnuts)
		}
	})
}

func TestVotesOverOneConnection(t *testing.T) {
	app := demotest.Start(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	dials := 0
	transport := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		dials++
		return new(net.Dialer).DialContext(ctx, network, addr)
	}}
	b := &Bot{Web: app.URL, Rate: 100, transport: transport}
	if err := b.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if b.voted == 0 {
		t.Error("got no vote, want some")
	}
	if dials > 2 {
		t.Errorf("%d connections, want one for votes and one for the event stream", dials)
	}
}

func TestBadRate(t *testing.T) {
	for _, rate := range []float64{0, -1, 1e6} {
		if err := (&Bot{Rate: rate}).Run(t.Context()); err == nil {
			t.Errorf("rate %v: got no error, want one", rate)
		}
	}
}
