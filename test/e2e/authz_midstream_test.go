package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/underlane/underlane/test/lab"
)

// Ports of the applications of TestPolicyMidStream.
const (
	midWeb  = 9100
	midGRPC = 9101
	midEcho = 9102
)

// midChanges are changes by which clients of the account other are not allowed any more, and
// those of the account friend still are.
var midChanges = map[string]string{
	"ours": `---
apiVersion: policy.underlane.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: mid, namespace: default}
spec:
  targetRefs: [{group: "", kind: Pod, selector: {matchLabels: {app: server}}}]
  action: DENY
  enforcementLevel: Network
  rules: [{sources: [{type: ServiceAccount, serviceAccount: {name: other}}]}]
`,
	"istio": `---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: mid, namespace: default}
spec: {selector: {matchLabels: {app: server}}, action: ALLOW, rules: [{from: [{source: {principals: [cluster.local/ns/default/sa/friend]}}]}]}
`,
	"linkerd": midLinkerd(midWeb, midGRPC, midEcho),
}

func midLinkerd(ports ...int) (out string) {
	for _, port := range ports {
		out += strings.ReplaceAll(`---
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {name: mid-PORT, namespace: default}
spec: {podSelector: {matchLabels: {app: server}}, port: PORT}
---
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: mid-PORT, namespace: default}
spec:
  targetRef: {group: policy.linkerd.io, kind: Server, name: mid-PORT}
  requiredAuthenticationRefs: [{kind: ServiceAccount, name: friend}]
`, "PORT", fmt.Sprint(port))
	}
	return out
}

// midServer has applications that last as long as their clients.
type midServer struct {
	mu       sync.Mutex
	uploaded map[string]int   // bytes, by path
	ends     map[string]error // how a body ended; io.EOF: as a whole
}

func newMidServer(t *testing.T, l *lab.Lab, pod string) *midServer {
	t.Helper()
	s := &midServer{uploaded: map[string]int{}, ends: map[string]error{}}
	web := &http.Server{Protocols: new(http.Protocols), Handler: s}
	web.Protocols.SetHTTP1(true)
	web.Protocols.SetUnencryptedHTTP2(true)
	at := listenIn(t, l, pod, midWeb)
	go func() { _ = web.Serve(at) }()
	t.Cleanup(func() { web.Close() })
	calls := grpc.NewServer()
	grpc_testing.RegisterTestServiceServer(calls, &grpcServer{name: pod})
	at2 := listenIn(t, l, pod, midGRPC)
	go func() { _ = calls.Serve(at2) }()
	t.Cleanup(calls.Stop)
	at3 := listenIn(t, l, pod, midEcho)
	go func() {
		for {
			c, err := at3.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); _, _ = io.Copy(c, c) }()
		}
	}()
	return s
}

// ServeHTTP serves downloads, uploads, and upgrades to an echo.
func (s *midServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Header.Get("Upgrade") != "":
		c, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_, _ = io.Copy(c, rw)
	case strings.HasPrefix(r.URL.Path, "/up"):
		buf := make([]byte, 4096)
		for {
			n, err := r.Body.Read(buf)
			s.mu.Lock()
			if s.uploaded[r.URL.Path] += n; err != nil {
				s.ends[r.URL.Path] = err
			}
			s.mu.Unlock()
			if err != nil {
				return
			}
		}
	case strings.HasPrefix(r.URL.Path, "/down"):
		for r.Context().Err() == nil {
			if _, err := io.WriteString(w, "tick\n"); err != nil {
				return
			}
			w.(http.Flusher).Flush()
			time.Sleep(10 * time.Millisecond) // the speed of the download
		}
	}
}

func (s *midServer) bytesOf(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.uploaded[path]
}

// midClient is a pod, and what it has open.
type midClient struct {
	t     *testing.T
	s     *midServer
	d     *podDialer
	name  string
	ip    string
	http  map[string]*http.Transport
	calls *grpc.ClientConn
}

func newMidClient(t *testing.T, l *lab.Lab, s *midServer, pod, server string) *midClient {
	t.Helper()
	c := &midClient{t: t, s: s, d: dialFrom(t, l, pod), name: pod, ip: l.Pod(server).IP().String(), http: map[string]*http.Transport{}}
	for _, version := range []string{"HTTP/1", "HTTP/2"} {
		p := new(http.Protocols)
		p.SetHTTP1(version == "HTTP/1")
		p.SetUnencryptedHTTP2(version == "HTTP/2")
		tr := &http.Transport{Protocols: p, DialContext: c.d.DialContext}
		t.Cleanup(tr.CloseIdleConnections)
		c.http[version] = tr
	}
	var err error
	c.calls, err = grpc.NewClient("passthrough:///"+c.at(midGRPC), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return c.d.DialContext(ctx, "tcp", addr) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.calls.Close() })
	return c
}

func (c *midClient) at(port int) string { return net.JoinHostPort(c.ip, fmt.Sprint(port)) }

// midFlow is something that lasts.
type midFlow struct {
	what string
	step func() error // sends a bit, and waits until it has come; an error is its end
	// refused says whether the end tells the reason, if the protocol has a place for it.
	refused func(error) bool
	path    string // in tap; "": an opaque connection
}

// open begins one flow of each kind. round makes their paths unique.
func (c *midClient) open(round string) (out []midFlow) {
	t := c.t
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	for version, tr := range c.http {
		// A download.
		path := fmt.Sprintf("/down/%s/%s/%s", round, c.name, version)
		req, err := http.NewRequestWithContext(ctx, "GET", "http://"+c.at(midWeb)+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := tr.RoundTrip(req)
		if err != nil || resp.StatusCode != 200 {
			t.Fatal(path, resp, err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		out = append(out, midFlow{what: "download, " + version, path: path, step: func() error {
			_, err := io.ReadFull(resp.Body, make([]byte, len("tick\n")))
			if errors.Is(err, io.EOF) {
				t.Errorf("%s: the body ends as if it were complete", path)
			}
			return err
		}})
		out = append(out, c.upload(ctx, tr, fmt.Sprintf("/up/%s/%s/%s", round, c.name, version), version))
	}
	ws := c.d.raw(t, c.at(midWeb))
	path := fmt.Sprintf("/ws/%s/%s", round, c.name)
	ws.send("GET " + path + " HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	if resp, err := http.ReadResponse(ws.r, nil); err != nil || resp.StatusCode != 101 {
		t.Fatal(path, resp, err)
	}
	out = append(out, midFlow{what: "WebSocket", path: path, step: func() error { return echo(ws, ws.r, "hello") }})
	stream, err := grpc_testing.NewTestServiceClient(c.calls).FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	out = append(out, midFlow{
		what: "gRPC", path: "/grpc.testing.TestService/FullDuplexCall",
		step: func() error {
			if err := stream.Send(&grpc_testing.StreamingOutputCallRequest{Payload: payload(10)}); err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			_, err := stream.Recv()
			return err
		},
		refused: func(err error) bool {
			return status.Code(err) == codes.PermissionDenied && strings.Contains(err.Error(), "policy does not allow")
		},
	})
	opaque := c.d.raw(t, c.at(midEcho))
	return append(out, midFlow{what: "opaque", step: func() error { return echo(opaque, opaque.r, "\x00\x01hi") }})
}

func echo(w io.Writer, r *bufio.Reader, text string) error {
	if _, err := io.WriteString(w, text); err != nil {
		return err
	}
	_, err := io.ReadFull(r, make([]byte, len(text)))
	return err
}

var errMidRefused = errors.New("answered with the reason")

// upload begins an upload of which no response comes before its end.
func (c *midClient) upload(ctx context.Context, tr *http.Transport, path, version string) midFlow {
	c.t.Helper()
	r, w := io.Pipe()
	req, err := http.NewRequestWithContext(ctx, "POST", "http://"+c.at(midWeb)+path, r)
	if err != nil {
		c.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		resp, err := tr.RoundTrip(req)
		if err == nil {
			resp.Body.Close()
			if err = fmt.Errorf("answered %s", resp.Status); resp.StatusCode == 403 && resp.Header.Get("Underlane-Reason") == "policy-denied" {
				err = errMidRefused
			}
		}
		r.CloseWithError(err)
		ended <- err
	}()
	sent := 0
	return midFlow{
		what: "upload, " + version, path: path,
		step: func() error {
			if _, err := io.WriteString(w, "piece"); err != nil {
				return <-ended
			}
			sent += len("piece")
			for limit := time.Now().Add(patience); c.s.bytesOf(path) < sent; time.Sleep(time.Millisecond) {
				select {
				case err := <-ended:
					ended <- err // for the next step
					return err
				default:
				}
				if time.Now().After(limit) {
					return fmt.Errorf("%d of %d bytes have come", c.s.bytesOf(path), sent)
				}
			}
			return nil
		},
		refused: func(err error) bool { return errors.Is(err, errMidRefused) },
	}
}

// TestPolicyMidStream: what is open when a policy of any language comes that does not allow its
// client any more is cut, within about a second and with the reason: downloads, uploads, WebSockets,
// gRPC streams and opaque connections, of clients of the same node and of another. An upload that
// is cut does not look complete. What other clients have open goes on. When the policy goes, the
// client is let in again, on the connections that it has.
func TestPolicyMidStream(t *testing.T) {
	t.Parallel()
	pods := []podSpec{serverPod("server", node2)}
	for _, name := range []string{"far", "near", "friend-far", "friend-near"} {
		p := clientPod(name, node1)
		if strings.HasSuffix(name, "near") {
			p.Node = node2
		}
		if p.Account = "other"; strings.HasPrefix(name, "friend") {
			p.Account = "friend"
		}
		pods = append(pods, p)
	}
	l := lab.Up(t, lab.Options{}, manifests(pods...))
	waitEnrolled(t, l, "default/far", "default/near", "default/friend-far", "default/friend-near", "default/server")
	s := newMidServer(t, l, "server")
	clients := map[string]*midClient{}
	for _, p := range pods[1:] {
		clients[p.Name] = newMidClient(t, l, s, p.Name, "server")
	}
	tap := startTap(t, l, node2)
	for change, manifest := range midChanges {
		t.Run(change, func(t *testing.T) {
			flows := map[string][]midFlow{}
			for name, c := range clients {
				c.t = t
				flows[name] = c.open(change)
				for _, f := range flows[name] {
					if err := f.step(); err != nil {
						t.Fatalf("%s, %s, before the change: %v", name, f.what, err)
					}
				}
			}
			tap.forget()
			l.Apply(manifest)
			began := time.Now()
			var all sync.WaitGroup
			for _, name := range []string{"far", "near"} {
				for _, f := range flows[name] {
					all.Go(func() {
						err := f.step()
						for ; err == nil && time.Since(began) < patience; err = f.step() {
							time.Sleep(time.Millisecond)
						}
						if err == nil {
							t.Errorf("%s, %s: goes on after %v", name, f.what, time.Since(began))
							return
						}
						t.Logf("%s, %s: cut after %v: %v", name, f.what, time.Since(began).Round(time.Millisecond), err)
						if f.refused != nil && !f.refused(err) {
							t.Errorf("%s, %s: the end is %v, without the reason", name, f.what, err)
						}
					})
				}
			}
			all.Wait()
			for _, name := range []string{"far", "near"} {
				for _, f := range flows[name] {
					e := tap.wait(name+", the end of "+f.what, func(e event) bool {
						// On one node the client's side alone reports: no agent is between.
						if e.ProxyDirection != map[string]string{"far": "INBOUND", "near": "OUTBOUND"}[name] || e.Source.Metadata["pod"] != name {
							return false
						}
						if f.path == "" {
							return e.ConnCloseEvent != nil && e.Destination.Port == midEcho
						}
						return e.ResponseEndEvent != nil && e.ResponseEndEvent.Path == f.path
					})
					if e.Reason != "policy-denied" {
						t.Errorf("%s, %s, in tap: %s", name, f.what, e)
					}
				}
			}
			s.mu.Lock()
			for path, err := range s.ends {
				if errors.Is(err, io.EOF) && !strings.Contains(path, "friend") {
					t.Errorf("%s: the application takes a body that was cut for complete", path)
				}
			}
			s.mu.Unlock()
			for _, name := range []string{"friend-far", "friend-near"} {
				for _, f := range flows[name] {
					for range 3 {
						if err := f.step(); err != nil {
							t.Errorf("%s, %s: %v, want that it goes on", name, f.what, err)
							break
						}
					}
				}
			}
			for _, name := range []string{"far", "near"} {
				if let, err := clients[name].once(); len(let) > 0 {
					t.Errorf("%s: let in after the change: %v; others: %v", name, let, err)
				}
			}
			l.Delete(manifest)
			for _, name := range []string{"far", "near"} {
				l.Eventually(patience, func() error { _, err := clients[name].once(); return err })
			}
		})
	}
}

// once makes requests, a call and an opaque connection. It returns which of them are let in, and
// how the others end.
func (c *midClient) once() (let []string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var errs []error
	tell := func(what string, err error) {
		if err == nil {
			let = append(let, what)
		} else {
			errs = append(errs, fmt.Errorf("%s: %w", what, err))
		}
	}
	for version, tr := range c.http {
		tell(version, c.get(ctx, tr))
	}
	_, err = grpc_testing.NewTestServiceClient(c.calls).UnaryCall(ctx, &grpc_testing.SimpleRequest{})
	tell("gRPC", err)
	raw, err := c.d.DialContext(ctx, "tcp", c.at(midEcho))
	if err == nil {
		_ = raw.SetDeadline(time.Now().Add(patience))
		err = echo(raw, raw.(*podConn).r, "\x00\x01hi")
		raw.Close()
	}
	tell("opaque", err)
	return let, errors.Join(errs...)
}

func (c *midClient) get(ctx context.Context, tr *http.Transport) error {
	req, err := http.NewRequestWithContext(ctx, "GET", "http://"+c.at(midWeb)+"/once", nil)
	if err != nil {
		return err
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode == 200 {
		return err
	}
	return fmt.Errorf("%s %s", resp.Status, resp.Header.Get("Underlane-Reason"))
}
