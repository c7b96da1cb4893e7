package e2e

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/underlane/underlane/test/lab"
)

const (
	strictOn  = "underlane.io/policy=strict"
	strictOff = "underlane.io/policy-"
)

// guarded brings up a lab with a strict pod and a pod of a strict namespace on
// node-2, and callers of each kind.
func guarded(t *testing.T) *lab.Lab {
	t.Helper()
	outsider := clientPod("outsider", node1)
	outsider.Labels = nil
	server := serverPod("server", node2)
	server.Annotations = map[string]string{"underlane.io/policy": "strict"}
	vault := serverPod("vault", node2)
	vault.Namespace = "vault"
	namespace := `---
apiVersion: v1
kind: Namespace
metadata:
  name: vault
  annotations: {underlane.io/policy: strict}
`
	l := lab.Up(t, lab.Options{}, namespace+manifests(outsider, clientPod("client", node1), clientPod("neighbour", node2), server, vault))
	waitEnrolled(t, l, "default/client", "default/neighbour", "default/server", "vault/vault")
	return l
}

// TestStrict: a strict pod lets in mesh identities and its own node, and
// refuses all others in a way that each protocol understands.
func TestStrict(t *testing.T) {
	t.Parallel()
	l := guarded(t)
	tap := startTap(t, l, node2)
	for _, server := range []string{"default/server", "vault/vault"} {
		pod := l.Pod(server)
		for _, ip := range pod.IPs {
			t.Run(fmt.Sprintf("%s at %s", server, ip), func(t *testing.T) {
				url := "http://" + addrPort(ip, 8080) + "/" + strings.ReplaceAll(t.Name(), "/", "-")
				refusals(t, l, tap, ip, url)
				for _, client := range []string{"client", "neighbour"} {
					for _, version := range []string{"--http2=false", "--http2=true"} {
						if out := l.Exec(client, "labtest", "get", "-i", version, url); !strings.Contains(out, " 200 OK\n") {
							t.Errorf("%s %s: %s", client, version, out)
						}
					}
					for _, port := range []int{7000, 7001} {
						if r := say(l, client, addrPort(ip, port), "let me in"); r.Code != 0 || !strings.HasSuffix(r.Stdout, "let me in") {
							t.Errorf("%s, port %d: %s", client, port, r)
						}
					}
				}
				if out := l.NodeExec(node2, "labtest", "get", "-i", url); !strings.Contains(out, " 200 OK\n") {
					t.Errorf("a probe of the pod's own node: %s", out)
				}
				if out := l.NodeExec(node1, "labtest", "get", "-i", url); !strings.Contains(out, " 403 Forbidden\n") {
					t.Errorf("another node: %s", out)
				}
			})
		}
	}
}

// refusals tries a strict server from outside the mesh.
func refusals(t *testing.T, l *lab.Lab, tap *tapReader, ip netip.Addr, url string) {
	t.Helper()
	for _, version := range []string{"--http2=false", "--http2=true"} {
		path := "/" + version[2:]
		out := l.Exec("outsider", "labtest", "get", "-i", version, url+path)
		if !strings.Contains(out, " 403 Forbidden\n") || !strings.Contains(out, "Underlane-Reason: no-identity") {
			t.Errorf("outsider %s: %s", version, out)
		}
		e := tap.wait("the refused request "+version, func(e event) bool {
			return e.ResponseEndEvent != nil && strings.HasSuffix(url+path, e.ResponseEndEvent.Path) && strings.HasSuffix(e.ResponseEndEvent.Path, path)
		})
		if e.Reason != "no-identity" || e.ResponseEndEvent.HTTPStatus != 403 || e.TLS != "no-identity" || e.Destination.IP != ip.String() {
			t.Error(e)
		}
		out = l.Exec("outsider", "labtest", "get", "-i", version, "-X", "POST", "-H", "Content-Type: application/grpc", "-H", "TE: trailers", url+path+"/grpc")
		if !strings.Contains(out, " 200 OK\n") || !strings.Contains(out, "Grpc-Status: 7\r\n") {
			t.Errorf("outsider's gRPC %s: want PERMISSION_DENIED: %s", version, out)
		}
		e = tap.wait("the refused call "+version, func(e event) bool {
			return e.ResponseEndEvent != nil && strings.HasSuffix(e.ResponseEndEvent.Path, path+"/grpc") && e.Destination.IP == ip.String()
		})
		if e.Reason != "no-identity" || e.ResponseEndEvent.GRPCStatusCode != 7 || !e.ResponseEndEvent.GRPC {
			t.Error(e)
		}
	}
	for _, port := range []int{7000, 7001} {
		if r := say(l, "outsider", addrPort(ip, port), "opaque\x00bytes"); r.Code == 0 || r.Stdout != "" {
			t.Errorf("outsider's bytes to port %d: %s", port, r)
		}
		e := tap.wait(fmt.Sprintf("the refused connection to %s", addrPort(ip, port)), func(e event) bool {
			return e.ConnCloseEvent != nil && e.Destination.IP == ip.String() && int(e.Destination.Port) == port && e.ProxyDirection == "INBOUND"
		})
		if e.Reason != "no-identity" || e.ConnCloseEvent.Event != "denied" {
			t.Error(e)
		}
	}
}

// TestStrictGoesByIdentity: an address is no identity. Plaintext with the
// address of a meshed pod, past that pod's agent, is refused.
func TestStrictGoesByIdentity(t *testing.T) {
	t.Parallel()
	l := guarded(t)
	address := addrPort(l.Pod("server").IP(), 8080)
	c, err := inNetns(t, l.Pod("client").Netns, func() (net.Conn, error) { return net.DialTimeout("tcp", address, patience) })
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	resp := ask(t, c, bufio.NewReader(c))
	if resp.StatusCode != http.StatusForbidden || resp.Header.Get("Underlane-Reason") != "no-identity" {
		t.Errorf("%s %v", resp.Status, resp.Header)
	}
}

// ask makes one request on a kept connection.
func ask(t *testing.T, c net.Conn, r *bufio.Reader) *http.Response {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(patience))
	req, err := http.NewRequest("GET", "http://server/", nil)
	if err == nil {
		err = req.Write(c)
	}
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(r, req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp
}

// TestStrictIsLive: the annotation of a pod or a namespace works for the next
// request, on connections that are open too.
func TestStrictIsLive(t *testing.T) {
	t.Parallel()
	l := guarded(t)
	for ref, target := range map[string]string{"default/server": "default/pod/server", "vault/vault": "ns/vault"} {
		address := addrPort(l.Pod(ref).IP(), 8080)
		c, err := inNetns(t, l.Pod("outsider").Netns, func() (net.Conn, error) { return net.DialTimeout("tcp", address, patience) })
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		r := bufio.NewReader(c)
		// The refusal before may have ended the connection, but none comes here.
		for _, step := range []struct {
			change string
			want   int
		}{{strictOff, 200}, {strictOn, 403}} {
			l.Annotate(target, step.change)
			l.Eventually(patience, func() error {
				if code := statusFrom(l, "outsider", "http://"+address+"/"); code != step.want {
					return fmt.Errorf("%s after %s: status %d, want %d", ref, step.change, code, step.want)
				}
				return nil
			})
			if resp := ask(t, c, r); resp.StatusCode != step.want {
				t.Errorf("%s after %s: %s on the connection of before", ref, step.change, resp.Status)
			}
		}
	}
}

// statusFrom is the status of a GET from a pod, 0 without an answer.
func statusFrom(l *lab.Lab, pod, url string) int {
	r := l.TryExec(pod, "labtest", "get", "-i", url)
	var code int
	_, _ = fmt.Sscanf(r.Stdout, "HTTP/1.1 %d", &code)
	return code
}
