package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// connUser is who is logged in on a connection.
type connUser struct {
	mu    sync.Mutex
	asked bool
	name  string
}

type connUserKey struct{}

// serveLogins authenticates connections in the pod as NTLM does, in three steps, or
// as Negotiate does, in one, and answers with who is logged in.
func serveLogins(t *testing.T, l *l7Lab, pod string, port int) {
	t.Helper()
	srv := &http.Server{
		Protocols: new(http.Protocols),
		ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
			return context.WithValue(ctx, connUserKey{}, new(connUser))
		},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			u := r.Context().Value(connUserKey{}).(*connUser)
			u.mu.Lock()
			defer u.mu.Unlock()
			switch scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " "); {
			case scheme == "NTLM" && token == "type1":
				u.asked = true
				w.Header().Set("WWW-Authenticate", "NTLM challenge")
				w.WriteHeader(http.StatusUnauthorized)
				return
			case scheme == "NTLM" && u.asked, scheme == "Negotiate":
				u.name = token
			}
			if u.name == "" {
				w.Header().Add("WWW-Authenticate", "Basic realm=x")
				w.Header().Add("WWW-Authenticate", "Negotiate, NTLM")
				w.WriteHeader(http.StatusUnauthorized)
			}
			_, _ = io.WriteString(w, u.name)
		}),
	}
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetUnencryptedHTTP2(true)
	ln := listenIn(t, l.Lab, pod, port)
	go srv.Serve(ln)
	t.Cleanup(func() { srv.Close() })
}

// TestConnectionLogin: a login belongs to the connection that it was made on, and
// nobody else is answered as that user.
func TestConnectionLogin(t *testing.T) {
	t.Parallel()
	bareAndMeshed(t, func(t *testing.T, l *l7Lab) {
		for _, pod := range []string{"near", "far"} {
			serveLogins(t, l, pod, 9200)
			for _, http2 := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, HTTP/2 %v", pod, http2), func(t *testing.T) {
					connectionLogins(t, l, "http://"+addrPort(l.Pod(pod).IP(), 9200), http2)
				})
			}
		}
	})
}

func connectionLogins(t *testing.T, l *l7Lab, url string, http2 bool) {
	type connection = *http.Client
	connect := func() connection {
		c := l.client(t, http2)
		c.Transport.(*http.Transport).MaxConnsPerHost = 1
		return c
	}
	says := func(c connection, authorization, want string) {
		t.Helper()
		req, _ := http.NewRequest("GET", url, nil)
		if authorization != "" {
			req.Header.Set("Authorization", authorization)
		}
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if got := fmt.Sprint(resp.StatusCode, " ", string(body)); got != want || err != nil {
			t.Errorf("%q: %s, want %s (%v)", authorization, got, want, err)
		}
	}
	early := connect() // its connections are there for others
	says(early, "", "401 ")
	alice := connect()
	says(alice, "", "401 ")
	says(alice, "NTLM type1", "401 ")
	says(alice, "NTLM alice", "200 alice")
	says(alice, "", "200 alice")
	carol, dave, nora := connect(), connect(), connect()
	says(carol, "NTLM type1", "401 ")
	says(dave, "NTLM type1", "401 ")
	says(nora, "Negotiate nora", "200 nora")
	says(carol, "NTLM carol", "200 carol")
	says(dave, "NTLM dave", "200 dave")
	strangers := func() {
		t.Helper()
		for range 6 { // more than there are connections that are not shared between agents
			says(connect(), "", "401 ")
		}
		says(early, "", "401 ")
	}
	for range 3 {
		strangers()
		says(alice, "", "200 alice")
		says(carol, "", "200 carol")
		says(dave, "", "200 dave")
		says(nora, "", "200 nora")
	}
	for _, c := range []connection{alice, carol, dave, nora} {
		c.CloseIdleConnections()
	}
	strangers()
	says(alice, "", "401 ") // by a new connection
}
