package try

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// network connects to one address on loopback, and reports the connection as the proxy does.
type network struct {
	to     string
	hub    *tap.Hub
	reason mesh.Reason
	hold   chan struct{} // not nil: DialAs waits until it is closed
}

func (n *network) DialAs(ctx context.Context, pod string, dst netip.AddrPort) (net.Conn, error) {
	if n.hold != nil {
		<-n.hold
	}
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", n.to)
	if err != nil || n.hub == nil {
		return c, err
	}
	local := netip.MustParseAddrPort(c.LocalAddr().String())
	for _, addr := range []netip.AddrPort{local, netip.AddrPortFrom(local.Addr(), local.Port()+1)} { // the second is another connection
		n.hub.Emit(&tap.Event{
			Kind: tap.ResponseEnd, TLS: tap.TLSTrue, Reason: n.reason, Route: &mesh.Route{Kind: "HTTPRoute", Namespace: "shop", Name: addr.String()}, Rule: "r",
			Source:      tap.Peer{Addr: addr, Workload: &mesh.Workload{UID: pod}},
			Destination: tap.Peer{Addr: dst, Workload: &mesh.Workload{Namespace: "shop", Name: "api-1"}},
		})
	}
	return c, nil
}

const destinationText = "10.0.0.9:80"

func TestTry(t *testing.T) {
	large := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "api.shop" || r.URL.Path != "/x" || r.UserAgent() != agent {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.CopyN(w, zeros{}, 10<<20)
	}))
	t.Cleanup(large.Close)
	second := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 || r.Host != "api.shop" || r.URL.Path != "/x" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.WriteHeader(http.StatusUnsupportedMediaType)
	}))
	second.Config.Protocols = new(http.Protocols)
	second.Config.Protocols.SetUnencryptedHTTP2(true)
	second.Start()
	t.Cleanup(second.Close)
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(secure.Close)
	closes := listen(t, func(c net.Conn) { c.Close() })
	// It reads the request first: a connection that is closed with unread bytes is reset.
	hangsUp := listen(t, func(c net.Conn) { _, _ = c.Read(make([]byte, 4096)); c.Close() })
	silent := listen(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c); c.Close() })
	greets := listen(t, func(c net.Conn) { _, _ = io.WriteString(c, "220 hello\r\n"); _, _ = io.Copy(io.Discard, c); c.Close() })
	for name, c := range map[string]struct {
		to       string
		protocol agentv1.TryRequest_Protocol
		status   uint32
		err      string // part of TryResponse.Error
		cert     string
	}{
		"HTTP":                 {large.Listener.Addr().String(), agentv1.TryRequest_HTTP, http.StatusTeapot, "", ""},
		"HTTP, closed at once": {hangsUp, agentv1.TryRequest_HTTP, 0, "the server closed it", ""},
		"HTTP, no answer":      {silent, agentv1.TryRequest_HTTP, 0, "no answer within 5s", ""},
		"HTTP/2":               {second.Listener.Addr().String(), agentv1.TryRequest_HTTP2, http.StatusUnsupportedMediaType, "", ""},
		"HTTP/2, no answer":    {silent, agentv1.TryRequest_HTTP2, 0, "no answer within 5s", ""},
		"refused":              {"127.0.0.1:1", agentv1.TryRequest_HTTP, 0, "connection refused", ""},
		"TLS":                  {secure.Listener.Addr().String(), agentv1.TryRequest_TLS, 0, "", "TLS 1.3 with a certificate of"},
		"TLS to HTTP":          {large.Listener.Addr().String(), agentv1.TryRequest_TLS, 0, "tls: ", ""},
		"TCP, silent":          {silent, agentv1.TryRequest_TCP, 0, "", ""},
		"TCP, greets":          {greets, agentv1.TryRequest_TCP, 0, "", ""},
		"TCP, closed at once":  {closes, agentv1.TryRequest_TCP, 0, "the server closed it at once", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hub := tap.NewHub()
			d := &Dialer{Hub: hub, Network: &network{to: c.to, hub: hub, reason: mesh.ReasonConnectRefused}}
			got, err := d.Try(t.Context(), &agentv1.TryRequest{
				Pod: "web", Destination: destinationText, Protocol: c.protocol, Method: "GET", Path: "/x", Authority: "api.shop",
			})
			if err != nil {
				t.Fatal(err)
			}
			if got.GetStatus() != c.status || c.err == "" && got.GetError() != "" || !strings.Contains(got.GetError(), c.err) || !strings.Contains(got.GetCertificate(), c.cert) {
				t.Errorf("got %v, want status %d, error %q, certificate %q", got, c.status, c.err, c.cert)
			}
			if !got.GetConnected() {
				return
			}
			rep := got.GetReport()
			if got.GetReason() != "connect-refused" || rep.GetPod() != "shop/api-1" || rep.GetEndpoint() != destinationText || rep.GetTls() != "true" || !strings.HasSuffix(rep.GetRoute(), got.GetLocal()) {
				t.Errorf("what tap saw: %v, reason %q; want the event of %s", rep, got.GetReason(), got.GetLocal())
			}
			if hub.Active() {
				t.Error("the subscription outlives the try")
			}
		})
	}
}

// TestOwnClosing: the try ends a connection that nothing else has ended. The agent sees a
// client that went away, but nothing has failed.
func TestOwnClosing(t *testing.T) {
	open := listen(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c); c.Close() })
	closes := listen(t, func(c net.Conn) { c.Close() })
	for to, want := range map[string]string{open: "", closes: "client-reset"} {
		hub := tap.NewHub()
		d := &Dialer{Hub: hub, Network: &network{to: to, hub: hub, reason: mesh.ReasonClientReset}}
		got, err := d.Try(t.Context(), &agentv1.TryRequest{Pod: "web", Destination: destinationText, Protocol: agentv1.TryRequest_TCP})
		if err != nil || got.GetReason() != want || got.GetReport() == nil {
			t.Errorf("got %v, %v; want reason %q and a report", got, err, want)
		}
	}
}

// zeros is an endless body.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func listen(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go serve(c)
		}
	}()
	t.Cleanup(func() { ln.Close(); <-done })
	return ln.Addr().String()
}

// TestRefused: what is not tried.
func TestRefused(t *testing.T) {
	d := &Dialer{Hub: tap.NewHub(), Network: &network{to: "127.0.0.1:1"}}
	for name, r := range map[string]*agentv1.TryRequest{
		"no address":   {Destination: "api:80"},
		"loopback":     {Destination: "127.0.0.1:80"},
		"mapped":       {Destination: "[::ffff:127.0.0.1]:80"},
		"link-local":   {Destination: "169.254.169.254:80"},
		"unspecified":  {Destination: "0.0.0.0:80"},
		"multicast":    {Destination: "[ff02::1]:80"},
		"other method": {Destination: destinationText, Protocol: agentv1.TryRequest_HTTP, Method: "POST"},
		"no path":      {Destination: destinationText, Protocol: agentv1.TryRequest_HTTP, Method: "GET"},
		"other host":   {Destination: destinationText, Protocol: agentv1.TryRequest_HTTP, Method: "GET", Path: "@elsewhere/"},
		"long path":    {Destination: destinationText, Protocol: agentv1.TryRequest_HTTP, Method: "GET", Path: "/" + strings.Repeat("x", maxPath)},
		"two lines":    {Destination: destinationText, Protocol: agentv1.TryRequest_HTTP, Method: "GET", Path: "/x HTTP/1.1\r\nX: y"},
		"fragment":     {Destination: destinationText, Protocol: agentv1.TryRequest_HTTP, Method: "GET", Path: "/x#y"},
		"escape":       {Destination: destinationText, Protocol: agentv1.TryRequest_HTTP, Method: "GET", Path: "/%zz"},
		"no text":      {Destination: destinationText, Protocol: agentv1.TryRequest_HTTP, Method: "GET", Path: "/\xff"},
		"user":         {Destination: destinationText, Protocol: agentv1.TryRequest_HTTP, Method: "GET", Path: "/", Authority: "me@api"},
		"long name":    {Destination: destinationText, Protocol: agentv1.TryRequest_TLS, Authority: strings.Repeat("x", maxHost+1)},
		"two headers":  {Destination: destinationText, Protocol: agentv1.TryRequest_HTTP, Method: "GET", Path: "/", Authority: "api\r\nX: y"},
		"over HTTP/2":  {Destination: destinationText, Protocol: agentv1.TryRequest_HTTP2, Method: "POST"},
	} {
		if got, err := d.Try(t.Context(), r); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: got %v, %v; want InvalidArgument", name, got, err)
		}
	}
}

// TestTriesAreBounded: many questions at once do not make many connections.
func TestTriesAreBounded(t *testing.T) {
	hold := make(chan struct{})
	d := &Dialer{Hub: tap.NewHub(), Network: &network{to: "127.0.0.1:1", hold: hold}}
	request := &agentv1.TryRequest{Destination: destinationText}
	ended := make(chan error)
	for range maxTries {
		go func() {
			_, err := d.Try(context.Background(), request)
			ended <- err
		}()
	}
	for d.running.Load() < maxTries {
		time.Sleep(time.Millisecond)
	}
	if _, err := d.Try(t.Context(), request); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("one more than %d: %v, want ResourceExhausted", maxTries, err)
	}
	close(hold)
	for range maxTries {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	if n := d.running.Load(); n != 0 {
		t.Errorf("%d tries are counted after the last one, want 0", n)
	}
}
