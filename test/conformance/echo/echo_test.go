package echo

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/gateway-api/conformance/utils/echo"

	pb "sigs.k8s.io/gateway-api/conformance/echo-basic/grpcechoserver"
)

// listen serves until the end of the test and returns the address.
func listen(t *testing.T, serve func(net.Listener) error) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = serve(l) }()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String()
}

func serveHTTP(t *testing.T) string {
	s := NewHTTPServer(HTTP("echo-v1-abc-xyz"))
	t.Cleanup(func() { s.Close() })
	return listen(t, s.Serve)
}

func serveGRPC(t *testing.T) string {
	s := NewGRPCServer("echo-v1-abc-xyz")
	t.Cleanup(s.Stop)
	return listen(t, s.Serve)
}

// output runs the call and returns what it prints.
func output(t *testing.T, c Call) string {
	t.Helper()
	var b strings.Builder
	if err := c.Run(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestHTTP checks that the suite's own parser understands the client's output.
func TestHTTP(t *testing.T) {
	addr := serveHTTP(t)
	_, port, _ := net.SplitHostPort(addr)
	text := output(t, Call{
		URL: "http://" + addr + "/path?codes=418", Method: "PUT",
		Header: []string{"X-One:a", "X-One:b:c", "Host:elsewhere"},
	})
	r := echo.ParseResponse(text)
	got := []string{r.Code, r.Hostname, r.Host, r.Method, r.URL, r.Port, r.Protocol, r.IP}
	want := []string{"418", "echo-v1-abc-xyz", "elsewhere", "PUT", "/path?codes=418", port, "HTTP/1.1", "127.0.0.1"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s\n%s", diff, text)
	}
	if diff := cmp.Diff([]string{"a", "b:c"}, r.RequestHeaders["X-One"]); diff != "" {
		t.Errorf("header of the request (-want +got):\n%s\n%s", diff, text)
	}
	if got := r.ResponseHeaders.Get("Content-Type"); got != "text/plain" {
		t.Errorf("Content-Type of the response: got %q, want text/plain\n%s", got, text)
	}
}

func TestGRPC(t *testing.T) {
	addr := serveGRPC(t)
	text := output(t, Call{URL: "grpc://" + addr, Header: []string{"X-One:a"}})
	r := echo.ParseResponse(text)
	got := []string{r.Code, r.Hostname, r.Host, r.Method, strings.Join(r.RequestHeaders.Values("X-One"), ",")}
	want := []string{"200", "echo-v1-abc-xyz", addr, pb.GrpcEcho_Echo_FullMethodName, "a"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s\n%s", diff, text)
	}
	text = output(t, Call{URL: "grpc://" + addr + pb.GrpcEcho_EchoThree_FullMethodName})
	if r := echo.ParseResponse(text); r.Code != "12" || r.Hostname != "" {
		t.Errorf("a method that does not exist: got code %q and hostname %q, want 12 and none\n%s", r.Code, r.Hostname, text)
	}
}

// TestCount checks that there are empty lines between the responses, by which the
// suite separates them.
func TestCount(t *testing.T) {
	for scheme, addr := range map[string]string{"http": serveHTTP(t), "grpc": serveGRPC(t)} {
		text := strings.TrimSpace(output(t, Call{URL: scheme + "://" + addr, Count: 20}))
		parts := strings.Split(text, "\n\n")
		if len(parts) != 20 {
			t.Fatalf("%s: %d parts, want 20:\n%s", scheme, len(parts), text)
		}
		for _, p := range parts {
			if r := echo.ParseResponse(p); r.Code != "200" || r.Hostname == "" {
				t.Errorf("%s: got %+v, want code 200 and a hostname", scheme, r)
			}
		}
	}
}

func TestTurnsAndDelay(t *testing.T) {
	addr := serveHTTP(t)
	text := output(t, Call{URL: "http://" + addr + "/?codes=500:2,200", Count: 4})
	var codes []string
	for part := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		codes = append(codes, echo.ParseResponse(part).Code)
	}
	if diff := cmp.Diff([]string{"500", "500", "200", "500"}, codes); diff != "" {
		t.Errorf("codes (-want +got):\n%s", diff)
	}
	begin := time.Now()
	output(t, Call{URL: "http://" + addr + "/?delay=50ms"})
	if took := time.Since(begin); took < 50*time.Millisecond {
		t.Errorf("a response with a delay of 50 ms took %s, want no less", took)
	}
	for _, bad := range []string{"x", "99", "200:0", "200:-1", "200:x", "200,", "200:100000"} {
		if _, err := parseCodes(bad); err == nil {
			t.Errorf("codes %q: got no error, want one", bad)
		}
	}
}

// TestNobodyThere checks that a request without a response is an error.
func TestNobodyThere(t *testing.T) {
	// Bind a socket without listening, so that no other process gets the port.
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	bound, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	port := bound.(*syscall.SockaddrInet4).Port
	if err := (Call{URL: fmt.Sprintf("http://127.0.0.1:%d", port)}).Run(t.Context(), &strings.Builder{}); err == nil {
		t.Error("http without a server: got no error, want one")
	}
	for _, bad := range []string{"ftp://x", "http://[", "://"} {
		if err := (Call{URL: bad}).Run(t.Context(), &strings.Builder{}); err == nil {
			t.Errorf("%s: got no error, want one", bad)
		}
	}
	if err := (Call{URL: "http://x", Header: []string{"nothing"}}).Run(t.Context(), &strings.Builder{}); err == nil {
		t.Error("a header without a value: got no error, want one")
	}
}

func TestServeTCP(t *testing.T) {
	c, err := net.Dial("tcp", listen(t, ServeTCP))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("ping")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4)
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if n, err := c.Read(buf); err != nil || string(buf[:n]) != "ping" {
		t.Errorf("read %q, %v; want ping", buf[:n], err)
	}
}

func TestSelfSigned(t *testing.T) {
	cert, err := SelfSigned("pod")
	if err != nil {
		t.Fatal(err)
	}
	s := NewHTTPServer(HTTP("pod"))
	defer s.Close()
	s.TLSConfig = clientless(cert)
	addr := listen(t, func(l net.Listener) error { return s.ServeTLS(l, "", "") })
	client := http.Client{Transport: &http.Transport{TLSClientConfig: trusting(t, cert)}}
	defer client.CloseIdleConnections()
	resp, err := client.Get("https://" + addr + "/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("status %d, want 200", resp.StatusCode)
	}
}
