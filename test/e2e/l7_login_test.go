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

	"github.com/underlane/underlane/test/lab"
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

// TestLoginOutlivesItsEndpoint: a login stays where it is when its pod is being deleted, for
// as long as the pod runs. New connections go to the other pods of the service.
func TestLoginOutlivesItsEndpoint(t *testing.T) {
	t.Parallel()
	const logins = `---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {tier: web}
  ports:
    - {name: http, port: 80, targetPort: 8080}
    - {name: logins, port: 90, targetPort: 9200}
`
	l := upL7(t)
	for _, node := range []string{node1, node2} {
		for _, http2 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, HTTP/2 %v", node, http2), func(t *testing.T) {
				going, stays := webPod("going", node), webPod("stays", node2)
				going.Command = []string{"sh", "-c", "trap '' TERM; setsid labtest all & wait; sleep 60"} // it does not hear of SIGTERM
				l.Apply(strings.Replace(going.manifest(), `"spec":{`, `"spec":{"terminationGracePeriodSeconds":10,`, 1), logins)
				waitEnrolled(t, l.Lab, "default/going")
				serveLogins(t, l, "going", 9200)
				service := l.ServiceIPs("default/web")[0]
				alice := l.client(t, http2)
				ask := func(authorization string) string {
					t.Helper()
					req, err := http.NewRequest(http.MethodGet, "http://"+addrPort(service, 90), nil)
					if err != nil {
						t.Fatal(err)
					}
					if authorization != "" {
						req.Header.Set("Authorization", authorization)
					}
					resp, err := alice.Do(req)
					if err != nil {
						return err.Error()
					}
					defer resp.Body.Close()
					body, err := io.ReadAll(resp.Body)
					if err != nil {
						return err.Error()
					}
					return fmt.Sprint(resp.StatusCode, " ", string(body))
				}
				if got := ask("Negotiate alice"); got != "200 alice" {
					t.Fatalf("the login: %q, want %q", got, "200 alice")
				}
				l.Apply(stays.manifest())
				waitEnrolled(t, l.Lab, "default/stays")
				serveLogins(t, l, "stays", 9200)
				defer l.Delete(stays.manifest())
				deleted := make(chan struct{})
				go func() { defer close(deleted); lab.Run(l.Command("delete", "pod/going")) }()
				defer func() { kill(t, l.Lab, "going"); <-deleted }()
				l.Eventually(patience, func() error {
					for range 10 {
						c := call(l.client(t, false), "http://"+addrPort(service, 80)+"/who")
						if c.code != http.StatusOK || !strings.Contains(c.text, `"stays"`) {
							return fmt.Errorf("%s, want an answer of the pod that stays", c)
						}
					}
					return nil
				})
				for range 3 {
					if got := ask(""); got != "200 alice" {
						t.Errorf("after its pod is no endpoint any more: %q, want %q", got, "200 alice")
					}
				}
				if s := l.Pod("going").Status; s != "Terminating" {
					t.Errorf("the pod is %s, want that it is not removed yet", s)
				}
			})
		}
	}
}
