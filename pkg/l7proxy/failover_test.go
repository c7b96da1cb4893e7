package l7proxy

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/state"
)

// serviceOf publishes a service at 10.9.0.1:80 with these endpoints.
func (e *env) serviceOf(endpoints ...string) (vip string) {
	e.t.Helper()
	svc := &mesh.Service{
		Name: "server", Namespace: "default", VIPs: []netip.Addr{netip.MustParseAddr("10.9.0.1")},
		Ports: []mesh.ServicePort{{Port: 80}},
	}
	for _, addr := range endpoints {
		svc.Ports[0].Endpoints = append(svc.Ports[0].Endpoints, mesh.Endpoint{Addr: netip.MustParseAddrPort(addr), Ready: true})
	}
	if err := e.store.Apply(state.Delta{Version: 1, Synced: true, Resources: []state.Resource{
		{Name: state.ServiceName("default", "server"), Version: "1", Service: svc},
	}}); err != nil {
		e.t.Fatal(err)
	}
	return "10.9.0.1:80"
}

func TestFailover(t *testing.T) {
	backend := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %d", r.Method, len(body))
	}))
	var both http.Protocols
	both.SetHTTP1(true)
	both.SetUnencryptedHTTP2(true)
	backend.Config.Protocols = &both
	backend.Start()
	t.Cleanup(backend.Close)
	for name, http2 := range map[string]bool{"HTTP/1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			dead := 2
			if http2 {
				dead = 1 // one more attempt
			}
			endpoints := []string{backend.Listener.Addr().String()}
			for range dead {
				endpoints = append(endpoints, nobody(t))
			}
			url := "http://" + e.to(e.serviceOf(endpoints...))
			var protocols http.Protocols
			protocols.SetHTTP1(!http2)
			protocols.SetUnencryptedHTTP2(http2)
			for range 20 {
				transport := &http.Transport{Protocols: &protocols, DisableKeepAlives: !http2}
				resp, err := (&http.Client{Transport: transport}).Post(url, "text/plain", strings.NewReader(strings.Repeat("x", 100)))
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				transport.CloseIdleConnections()
				if resp.StatusCode != http.StatusOK || string(body) != "POST 100" || err != nil {
					t.Fatalf("%s: %q, %v", resp.Status, body, err)
				}
			}
		})
	}
}

func TestFailoverWithoutAnother(t *testing.T) {
	e := newEnv(t)
	url := "http://" + e.to(e.serviceOf(nobody(t), nobody(t), nobody(t), nobody(t)))
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: transport}).Get(url)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 502 || resp.Header.Get("Underlane-Reason") != mesh.ReasonConnectRefused.String() {
		t.Errorf("%s, %v", resp.Status, resp.Header)
	}
}

func TestFailoverOpaque(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprintln(c, "220 hello")
			c.Close()
		}
	}()
	e := newEnv(t)
	addr := e.to(e.serviceOf(nobody(t), l.Addr().String(), nobody(t)))
	for range 20 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		greeting, err := io.ReadAll(c)
		c.Close()
		if string(greeting) != "220 hello\n" {
			t.Fatalf("%q, %v", greeting, err)
		}
	}
}
