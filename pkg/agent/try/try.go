// Package try makes a connection in the name of a pod, as its program would make it, and
// says what became of it: `underlane why --try` asks for one.
package try

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

// Limits of one try.
const (
	limit    = 5 * time.Second // the whole
	quiet    = time.Second     // a TCP connection that nothing has ended for so long is open
	heard    = time.Second     // wait for what tap saw
	maxBody  = 64 << 10        // bytes of a response's body that are read
	maxTries = 2               // at once
	agent    = "underlane-why" // User-Agent
	buffer   = 256             // tap events
	maxPath  = 2048            // bytes, of the path with its query
	maxHost  = 320             // bytes of the authority: a name of DNS, and a port
)

// Network makes connections of pods. The kernel captures them as it captures those of the
// pod's programs.
type Network interface {
	DialAs(ctx context.Context, pod string, dst netip.AddrPort) (net.Conn, error)
}

// Dialer makes tries.
type Dialer struct {
	Network Network
	Hub     *tap.Hub

	running atomic.Int32
}

// Try makes the connection that r asks for. The error is a gRPC status: the connection was
// not made because of the request. A connection that fails is no error.
func (d *Dialer) Try(ctx context.Context, r *agentv1.TryRequest) (*agentv1.TryResponse, error) {
	dst, err := destination(r)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	defer d.running.Add(-1)
	if d.running.Add(1) > maxTries {
		return nil, status.Error(codes.ResourceExhausted, "other connections are being tried: try again")
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	t := &attempt{request: r, dst: dst, out: &agentv1.TryResponse{}}
	sub := d.Hub.Subscribe(t.mine, buffer)
	defer sub.Close()
	began := time.Now()
	conn, err := d.Network.DialAs(ctx, r.GetPod(), dst)
	if err == nil {
		defer conn.Close()
		t.out.Connected = true
		t.out.Local = conn.LocalAddr().String()
		local, _ := netip.ParseAddrPort(t.out.Local)
		t.port.Store(uint32(local.Port()))
		stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
		defer stop()
		err = t.use(ctx, conn)
	}
	t.out.Took = durationpb.New(time.Since(began))
	if err != nil {
		t.out.Error = explain(ctx, err)
	}
	if t.out.Connected {
		conn.Close()
		t.listen(ctx, sub)
	}
	return t.out, nil
}

func destination(r *agentv1.TryRequest) (netip.AddrPort, error) {
	dst, err := netip.ParseAddrPort(r.GetDestination())
	if err != nil {
		return dst, fmt.Errorf("destination: %w", err)
	}
	// These are the pod itself, or the machine that it runs on.
	if a := dst.Addr().Unmap(); a.IsLoopback() || a.IsUnspecified() || a.IsLinkLocalUnicast() || a.IsMulticast() {
		return dst, fmt.Errorf("destination %s: want the address of a Service or a pod", dst)
	}
	if m := r.GetMethod(); (r.GetProtocol() == agentv1.TryRequest_HTTP || r.GetProtocol() == agentv1.TryRequest_HTTP2) && m != http.MethodGet && m != http.MethodHead {
		return dst, fmt.Errorf("method %q: only GET and HEAD are tried", m)
	}
	if err := checkAuthority(r.GetAuthority()); err != nil {
		return dst, err
	}
	if p := r.GetProtocol(); p == agentv1.TryRequest_HTTP || p == agentv1.TryRequest_HTTP2 {
		return dst, checkPath(r.GetPath())
	}
	return dst, nil
}

// checkPath refuses what is no path of a request (origin-form, RFC 9112, section 3.2.1): the
// try must not be longer than a request of a program, nor be a request to something else.
func checkPath(path string) error {
	if len(path) > maxPath {
		return fmt.Errorf("path of %d bytes: want at most %d", len(path), maxPath)
	}
	if !strings.HasPrefix(path, "/") || strings.Contains(path, "#") || strings.ContainsFunc(path, notShown) || !utf8.ValidString(path) {
		return fmt.Errorf("path %q: want one that begins with /, without spaces, control characters and #", path)
	}
	if _, err := url.ParseRequestURI(path); err != nil {
		return fmt.Errorf("path: %w", err)
	}
	return nil
}

// checkAuthority refuses what is no host, with or without a port; "" is the destination.
func checkAuthority(authority string) error {
	if len(authority) > maxHost {
		return fmt.Errorf("authority of %d bytes: want at most %d", len(authority), maxHost)
	}
	if strings.ContainsAny(authority, "/?#@") || strings.ContainsFunc(authority, notShown) || !utf8.ValidString(authority) {
		return fmt.Errorf("authority %q: want HOST or HOST:PORT", authority)
	}
	return nil
}

func notShown(c rune) bool { return c <= ' ' || c == 0x7f }

// attempt is one try.
type attempt struct {
	request *agentv1.TryRequest
	dst     netip.AddrPort
	out     *agentv1.TryResponse
	port    atomic.Uint32 // of the pod's end; 0: not known yet
}

// mine reports whether an event is of this connection. Before its port is known, all
// connections of the pod may be it.
func (t *attempt) mine(e *tap.Event) bool {
	if e.Source.Workload == nil || e.Source.Workload.UID != t.request.GetPod() {
		return false
	}
	port := t.port.Load()
	return port == 0 || uint32(e.Source.Addr.Port()) == port
}

func (t *attempt) use(ctx context.Context, conn net.Conn) error {
	switch t.request.GetProtocol() {
	case agentv1.TryRequest_HTTP, agentv1.TryRequest_HTTP2:
		return t.http(ctx, conn)
	case agentv1.TryRequest_TLS:
		return t.tls(ctx, conn)
	}
	// The agent accepts before it reaches the endpoint: a connection that is refused there
	// ends a moment later.
	_ = conn.SetReadDeadline(time.Now().Add(quiet))
	_, err := conn.Read(make([]byte, 1))
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() == nil:
		return nil
	case errors.Is(err, io.EOF):
		return errors.New("the server closed it at once")
	}
	return err
}

func (t *attempt) http(ctx context.Context, conn net.Conn) error {
	host := t.request.GetAuthority()
	if host == "" {
		host = t.dst.String()
	}
	used := false
	transport := &http.Transport{
		DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: maxBody,
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			if used {
				return nil, io.EOF // the transport tries again after the server has closed the first one
			}
			used = true
			return conn, nil
		},
	}
	if t.request.GetProtocol() == agentv1.TryRequest_HTTP2 {
		transport.Protocols = new(http.Protocols)
		transport.Protocols.SetUnencryptedHTTP2(true)
	}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, t.request.GetMethod(), "http://"+t.dst.String()+t.request.GetPath(), nil)
	if err != nil {
		return err
	}
	request.Host = host
	request.Header.Set("User-Agent", agent)
	response, err := transport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	t.out.Status = uint32(response.StatusCode)
	_, _ = io.CopyN(io.Discard, response.Body, maxBody)
	return nil
}

func (t *attempt) tls(ctx context.Context, conn net.Conn) error {
	name, _, err := net.SplitHostPort(t.request.GetAuthority())
	if err != nil {
		name = t.request.GetAuthority()
	}
	// Nothing is sent and nothing is believed: the certificate is only shown.
	client := tls.Client(conn, &tls.Config{ServerName: name, InsecureSkipVerify: true}) //nolint:gosec // see above
	if err := client.HandshakeContext(ctx); err != nil {
		return err
	}
	state := client.ConnectionState()
	t.out.Certificate = tls.VersionName(state.Version)
	if certs := state.PeerCertificates; len(certs) > 0 {
		c := certs[0]
		t.out.Certificate += fmt.Sprintf(" with a certificate of %q by %q for %s, valid until %s",
			c.Subject, c.Issuer, names(c.DNSNames, c.IPAddresses), c.NotAfter.UTC().Format(time.RFC3339))
	}
	return nil
}

func names(hosts []string, addrs []net.IP) string {
	for _, a := range addrs {
		hosts = append(hosts, a.String())
	}
	switch {
	case len(hosts) == 0:
		return "no name"
	case len(hosts) > 5:
		return fmt.Sprintf("%s and %d more names", strings.Join(hosts[:5], ", "), len(hosts)-5)
	}
	return strings.Join(hosts, ", ")
}

// listen waits for what tap has seen of the connection.
func (t *attempt) listen(ctx context.Context, sub *tap.Subscription) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), heard)
	defer cancel()
	for {
		events, _, err := sub.Next(ctx)
		if err != nil {
			return
		}
		for i := range events {
			if e := &events[i]; t.mine(e) && e.Side == 0 {
				t.saw(e)
				if e.Kind == tap.ResponseEnd || e.Kind == tap.ConnClose {
					return
				}
			}
		}
	}
}

func (t *attempt) saw(e *tap.Event) {
	report := &agentv1.TryReport{Endpoint: e.Destination.Addr.String(), Tls: e.TLS, Rule: e.Rule}
	if w := e.Destination.Workload; w != nil {
		report.Pod = w.Namespace + "/" + w.Name
	}
	if r := e.Route; r != nil {
		report.Route = r.Kind + " " + r.Namespace + "/" + r.Name
	}
	t.out.Report = report
	t.out.Reason = e.Reason.String()
	// The try closes a connection that nothing has ended. This is no failure.
	if e.Reason == mesh.ReasonClientReset && t.out.Error == "" {
		t.out.Reason = ""
	}
}

// explain returns why a connection failed, in a few words.
func explain(ctx context.Context, err error) string {
	switch {
	case ctx.Err() != nil, errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT):
		return "no answer within " + limit.String()
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.ECONNRESET):
		return "connection reset"
	case errors.Is(err, syscall.EPERM):
		return "refused in the kernel, because the agent is away and the pod fails closed"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), strings.HasSuffix(err.Error(), "server closed idle connection"):
		return "the server closed it without an answer"
	}
	return err.Error()
}
