package l7proxy

import (
	"fmt"
	"net"
	"net/http"
	"testing"

	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
)

// TestDeniedClientsAreToldWhy: a client that may not connect any more gets the reason for its
// request under way, whatever the request is, as from a policy on requests. Then its connection
// is cut.
func TestDeniedClientsAreToldWhy(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("http2=%v", http2), func(t *testing.T) {
			asked := make(chan struct{}, 1)
			ended := make(chan struct{})
			app := &http.Server{Protocols: new(http.Protocols), Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				asked <- struct{}{}
				<-r.Context().Done()
				close(ended)
			})}
			app.Protocols.SetHTTP1(true)
			app.Protocols.SetUnencryptedHTTP2(true)
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			go func() { _ = app.Serve(l) }()
			t.Cleanup(func() { app.Close() })
			g := guard(t, l.Addr().String())
			g.rule(nil)
			protocols := new(http.Protocols)
			protocols.SetHTTP1(!http2)
			protocols.SetUnencryptedHTTP2(http2)
			transport := &http.Transport{Protocols: protocols}
			defer transport.CloseIdleConnections()
			answer := make(chan string, 1)
			go func() {
				req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://"+g.addr.String()+"/", nil)
				resp, err := transport.RoundTrip(req)
				if err != nil {
					answer <- err.Error()
					return
				}
				resp.Body.Close()
				answer <- fmt.Sprint(resp.StatusCode, " ", resp.Header.Get("Underlane-Reason"))
			}()
			<-asked
			g.rule(allowFrom("10.0.0.0/8"))
			if got := <-answer; got != "403 policy-denied" {
				t.Errorf("got %q, want 403 policy-denied", got)
			}
			<-ended
			proxytest.Eventually(t, "the connection is counted", func() bool { return g.proxy.PolicyRevoked() > 0 && g.proxy.RequestsRevoked() > 0 })
		})
	}
}
