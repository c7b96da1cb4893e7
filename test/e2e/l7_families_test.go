package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// Ports of TestFamilies: an application of each protocol that listens in one family
// alone, and one at which nobody listens.
const (
	http4, http6, echo4, echo6, nobodys = 9300, 9301, 9302, 9303, 9304
)

// serveFamilies serves in the pod, each port in one family.
func serveFamilies(t *testing.T, l *l7Lab, pod string) {
	t.Helper()
	for port, network := range map[int]string{http4: "tcp4", http6: "tcp6", echo4: "tcp4", echo6: "tcp6"} {
		ln := listenAt(t, l.Lab, pod, network, port)
		if port == echo4 || port == echo6 {
			go func() {
				for {
					c, err := ln.Accept()
					if err != nil {
						return
					}
					go func() {
						defer c.Close()
						line, err := bufio.NewReader(c).ReadString('\n')
						if err == nil {
							_, _ = io.WriteString(c, c.RemoteAddr().String()+" "+line)
						}
					}()
				}
			}()
			continue
		}
		srv := &http.Server{Protocols: new(http.Protocols), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, r.RemoteAddr+" "+r.URL.Path+"\n")
		})}
		srv.Protocols.SetHTTP1(true)
		srv.Protocols.SetUnencryptedHTTP2(true)
		go srv.Serve(ln)
		t.Cleanup(func() { srv.Close() })
	}
}

const familyService = `
apiVersion: v1
kind: Service
metadata: {name: families-POD}
spec:
  selector: {app: POD}
  ipFamilyPolicy: RequireDualStack
  ports:
    - {name: a, port: 9300}
    - {name: b, port: 9301}
    - {name: c, port: 9302}
    - {name: d, port: 9303}
    - {name: e, port: 9304}
`

// TestFamilies: an application that listens in one family alone is reached at the
// pod's and the Service's addresses of both, as clients reach it without the mesh,
// who try the next address when one is refused. It sees its client's address of its
// own family.
func TestFamilies(t *testing.T) {
	t.Parallel()
	outside := serverPod("outside", node2)
	outside.Labels = nil
	l := upL7(t, outside)
	for _, pod := range []string{"near", "far", "outside"} {
		serveFamilies(t, l, pod)
		l.Apply(strings.ReplaceAll(familyService, "POD", pod))
	}
	tap := startTap(t, l.Lab, node1)
	client := l.Pod("client")
	// sees is what an application at that port is to see of its client.
	sees := func(port int) netip.Addr {
		if port == http6 || port == echo6 {
			return client.IP6()
		}
		return client.IP()
	}
	check := func(t *testing.T, got, path string, port int) {
		t.Helper()
		addr, said, _ := strings.Cut(strings.TrimSpace(got), " ")
		from, err := netip.ParseAddrPort(addr)
		if err != nil || from.Addr().Unmap() != sees(port) || said != path {
			t.Errorf("got %q, want %s and %s", got, sees(port), path)
		}
	}
	for _, pod := range []string{"near", "far", "outside"} {
		vips := l.ServiceIPs("default/families-" + pod)
		if len(vips) != 2 {
			t.Fatalf("the Service has the addresses %v", vips)
		}
		for _, to := range append(vips, l.Pod(pod).IP(), l.Pod(pod).IP6()) {
			for _, http2 := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s at %s, HTTP/2 %v", pod, to, http2), func(t *testing.T) {
					c := l.client(t, http2)
					for _, port := range []int{http4, http6, nobodys} {
						path := fmt.Sprintf("/%s/%v/%v/%d", pod, to, http2, port)
						for range 2 { // by a new connection and one that is there
							resp, err := c.Get("http://" + addrPort(to, port) + path)
							if err != nil {
								t.Fatal(err)
							}
							body, _ := io.ReadAll(resp.Body)
							resp.Body.Close()
							switch {
							case port == nobodys:
								if resp.StatusCode != http.StatusBadGateway || resp.Header.Get("Underlane-Reason") != "connect-refused" {
									t.Errorf("nobody's port: %s %q", resp.Status, resp.Header.Get("Underlane-Reason"))
								}
								outboundEnd(tap, path)
								continue
							case resp.StatusCode != http.StatusOK:
								t.Errorf("port %d: %s %s", port, resp.Status, body)
								continue
							}
							check(t, string(body), path, port)
							if e := outboundEnd(tap, path); pod != "far" { // there the agent of its node knows
								want := l.Pod(pod).IP()
								if port == http6 {
									want = l.Pod(pod).IP6()
								}
								if got := fmt.Sprint(e.Destination.IP); got != want.String() {
									t.Errorf("port %d: tap has the destination %s, want %s", port, got, want)
								}
							}
						}
					}
				})
			}
			t.Run(fmt.Sprintf("%s at %s, opaque", pod, to), func(t *testing.T) {
				for _, port := range []int{echo4, echo6} {
					c := l.from.raw(t, addrPort(to, port))
					c.send("\x01\x02\x03 hello\n")
					check(t, c.rest(), "\x01\x02\x03 hello", port)
				}
				c, err := l.from.DialContext(t.Context(), "tcp", addrPort(to, nobodys))
				if err == nil {
					_ = c.SetDeadline(time.Now().Add(patience))
					_, _ = io.WriteString(c, "\x01\x02\x03 hello\n")
					if n, err := c.Read(make([]byte, 1)); n > 0 || isTimeout(err) {
						t.Errorf("nobody's port: %d bytes, %v", n, err)
					}
					c.Close()
				}
			})
		}
	}
}

func isTimeout(err error) bool {
	e, ok := err.(net.Error)
	return ok && e.Timeout()
}
