package e2e

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/underlane/underlane/test/lab"
)

// bridgeDir is a directory for unix sockets: their paths must be short.
func bridgeDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ul")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// podDialer makes connections from a pod: with it, clients of the test's own
// process speak as that pod's.
type podDialer struct{ socket string }

func dialFrom(t testing.TB, l *lab.Lab, pod string) *podDialer {
	t.Helper()
	d := &podDialer{socket: filepath.Join(bridgeDir(t), "s")}
	inPod(t, l, pod, "labtest", "bridge", d.socket).line()
	return d
}

// DialContext is net.Dialer's. The connection's addresses are those that the
// program in the pod sees.
func (d *podDialer) DialContext(ctx context.Context, _, addr string) (net.Conn, error) {
	var nd net.Dialer
	c, err := nd.DialContext(ctx, "unix", d.socket)
	if err != nil {
		return nil, err
	}
	return newPodConn(c.(*net.UnixConn), addr+"\n")
}

// podConn is a TCP connection of a pod, by way of a bridge.
type podConn struct {
	*net.UnixConn
	r             *bufio.Reader
	local, remote net.Addr
}

// newPodConn greets a bridge that dials (greeting is where to), or reads the
// greeting of one that listens.
func newPodConn(u *net.UnixConn, greeting string) (*podConn, error) {
	c := &podConn{UnixConn: u, r: bufio.NewReader(u)}
	_ = u.SetDeadline(time.Now().Add(patience))
	_, err := io.WriteString(u, greeting)
	var line string
	if err == nil {
		line, err = c.r.ReadString('\n')
	}
	if cause, failed := strings.CutPrefix(strings.TrimSpace(line), "ERR "); failed {
		err = fmt.Errorf("dial in the pod: %s", cause)
	}
	if err != nil {
		u.Close()
		return nil, err
	}
	_ = u.SetDeadline(time.Time{})
	first, second, _ := strings.Cut(strings.TrimSpace(strings.TrimPrefix(line, "OK ")), " ")
	if greeting == "" { // of a listener: the client first
		first, second = second, first
	}
	c.local, c.remote = podAddr(first), podAddr(second)
	return c, nil
}

type podAddr string

func (podAddr) Network() string  { return "tcp" }
func (a podAddr) String() string { return string(a) }

func (c *podConn) Read(p []byte) (int, error) { return c.r.Read(p) }
func (c *podConn) LocalAddr() net.Addr        { return c.local }
func (c *podConn) RemoteAddr() net.Addr       { return c.remote }

// podListener accepts connections at a port of a pod, for servers of the test's
// own process.
type podListener struct {
	net.Listener
	port int
}

func listenIn(t testing.TB, l *lab.Lab, pod string, port int) *podListener {
	t.Helper()
	return listenAt(t, l, pod, "tcp", port)
}

// listenAt is listenIn for one family alone: tcp4 or tcp6.
func listenAt(t testing.TB, l *lab.Lab, pod, network string, port int) *podListener {
	t.Helper()
	socket := filepath.Join(bridgeDir(t), "s")
	ul, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ul.Close() })
	inPod(t, l, pod, "labtest", "bridge", "--listen", ":"+strconv.Itoa(port), "--network", network, socket).line()
	return &podListener{Listener: ul, port: port}
}

func (p *podListener) Accept() (net.Conn, error) {
	for {
		c, err := p.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if pc, err := newPodConn(c.(*net.UnixConn), ""); err == nil {
			return pc, nil
		}
	}
}

// rawConn is a connection that a test plays by hand, with a limit on everything.
type rawConn struct {
	t *testing.T
	*podConn
}

func (d *podDialer) raw(t *testing.T, addr string) *rawConn {
	t.Helper()
	c, err := d.DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return newRaw(t, c)
}

func newRaw(t *testing.T, c net.Conn) *rawConn {
	_ = c.SetDeadline(time.Now().Add(patience))
	t.Cleanup(func() { c.Close() })
	return &rawConn{t: t, podConn: c.(*podConn)}
}

func (c *rawConn) send(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c.podConn, s); err != nil {
		c.t.Fatalf("send: %v", err)
	}
}

func (c *rawConn) expect(s string) {
	c.t.Helper()
	got := make([]byte, len(s))
	n, err := io.ReadFull(c.podConn, got)
	if d := cmp.Diff(s, string(got[:n])); d != "" {
		c.t.Fatalf("-want +got, then %v:\n%s", err, d)
	}
}

// rest reads on to the end, in order or not, and gives what came.
func (c *rawConn) rest() string {
	c.t.Helper()
	got, err := io.ReadAll(c.podConn)
	if os.IsTimeout(err) {
		c.t.Fatalf("no end of the stream after %q", got)
	}
	return string(got)
}

func (c *rawConn) response(method string) (*http.Response, string) {
	c.t.Helper()
	resp, err := http.ReadResponse(c.r, &http.Request{Method: method})
	if err != nil {
		c.t.Fatalf("response: %v", err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatalf("body after %q: %v", body, err)
	}
	return resp, string(body)
}

// request waits for a connection that carries something: one may be made ahead
// of the client's first byte, and given up.
func (p *podListener) request(t *testing.T) *rawConn {
	t.Helper()
	limit := time.AfterFunc(patience, func() { p.Listener.Close() })
	defer limit.Stop()
	for {
		c, err := p.Accept()
		if err != nil {
			t.Fatalf("no connection came: %v", err)
		}
		raw := newRaw(t, c)
		if _, err := raw.r.Peek(1); err == nil {
			return raw
		}
	}
}

// way is how a request can go: to a pod of another node and of the
// same, over IPv4 and IPv6.
type way struct {
	name           string
	server         string // pod
	serverIP       netip.Addr
	clientIP       netip.Addr
	tls            string // of the tap events
	clientN, nodeN string // nodes of client and server
}

func (w way) addr(port int) string { return addrPort(w.serverIP, port) }

// l7Lab is a client on node-1 and a server on each node.
type l7Lab struct {
	*lab.Lab
	from *podDialer
	ways []way
	bare bool // without the mesh
}

func upL7(t *testing.T, extra ...podSpec) *l7Lab {
	t.Helper()
	return upL7With(t, lab.Options{}, extra...)
}

func upL7With(t *testing.T, opts lab.Options, extra ...podSpec) *l7Lab {
	t.Helper()
	pods := append([]podSpec{
		clientPod("client", node1), serverPod("near", node1), serverPod("far", node2),
	}, extra...)
	l := &l7Lab{Lab: lab.Up(t, opts, manifests(pods...)), bare: opts.NoMesh}
	if !l.bare {
		waitEnrolled(t, l.Lab, "default/client", "default/near", "default/far")
	}
	l.from = dialFrom(t, l.Lab, "client")
	client, near, far := l.Pod("client"), l.Pod("near"), l.Pod("far")
	l.ways = []way{
		{"cross-node IPv4", "far", far.IP(), client.IP(), "true", node1, node2},
		{"cross-node IPv6", "far", far.IP6(), client.IP6(), "true", node1, node2},
		{"same-node IPv4", "near", near.IP(), client.IP(), "same-node", node1, node1},
		{"same-node IPv6", "near", near.IP6(), client.IP6(), "same-node", node1, node1},
	}
	return l
}

// bareAndMeshed runs a case first on pods without a mesh, then on the same pods
// with it: what happens bare is what is right.
func bareAndMeshed(t *testing.T, run func(t *testing.T, l *l7Lab), extra ...podSpec) {
	t.Helper()
	for _, bare := range []bool{true, false} {
		name := "meshed"
		if bare {
			name = "bare"
		}
		t.Run(name, func(t *testing.T) {
			t.Helper()
			run(t, upL7With(t, lab.Options{NoMesh: bare}, extra...))
		})
	}
}

// client is an HTTP client in the pod "client".
func (l *l7Lab) client(t *testing.T, http2 bool) *http.Client {
	tr := &http.Transport{DialContext: l.from.DialContext, DisableCompression: true, Protocols: new(http.Protocols)}
	tr.Protocols.SetHTTP1(!http2)
	tr.Protocols.SetUnencryptedHTTP2(http2)
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 2 * patience}
}

// outboundEnd waits for the end of a request of that path at the client's node.
func outboundEnd(r *tapReader, path string) event {
	r.t.Helper()
	return r.wait("the end of "+path, func(e event) bool {
		return e.ResponseEndEvent != nil && e.ResponseEndEvent.Path == path && e.ProxyDirection == "OUTBOUND"
	})
}

// forget drops the events so far.
func (r *tapReader) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = nil
}

// do makes a request to labtest's HTTP server.
func do(t *testing.T, client *http.Client, req *http.Request) answer {
	t.Helper()
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	var a answer
	if err == nil {
		err = json.Unmarshal(body, &a)
	}
	if err != nil {
		t.Fatalf("%s %s: %d %q: %v", req.Method, req.URL, resp.StatusCode, body, err)
	}
	return a
}

// pattern is the stream of bytes that labtest sends.
type pattern struct{ x uint64 }

func (p *pattern) Read(b []byte) (int, error) {
	for i := range b {
		p.x = p.x*6364136223846793005 + 1442695040888963407
		b[i] = byte(p.x >> 56)
	}
	return len(b), nil
}

func patternHash(n int64) string {
	_, hash, _ := hashOf(io.LimitReader(&pattern{}, n))
	return hash
}

func hashOf(r io.Reader) (int64, string, error) {
	h := sha256.New()
	n, err := io.Copy(h, r)
	return n, fmt.Sprintf("%x", h.Sum(nil)), err
}
