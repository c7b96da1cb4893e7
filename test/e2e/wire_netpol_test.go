package e2e

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/underlane/underlane/test/demo/selfcheck/wire"
	"github.com/underlane/underlane/test/lab"
)

const serverPolicy = `---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: server, namespace: default}
spec:
  podSelector: {matchLabels: {app: server}}
`

// TestNetworkPolicyIsObeyed: what a CNI would enforce on a pod's link, a
// packet filter here, is not gone around by the same-node shortcut once a
// NetworkPolicy selects the pod. The filter is there all the time: without the
// object the shortcut passes it by, and that is how the test knows its path.
func TestNetworkPolicyIsObeyed(t *testing.T) {
	t.Parallel()
	l := lab.Up(t, lab.Options{}, manifests(clientPod("client", node1), clientPod("friend", node1), serverPod("server", node1)))
	waitEnrolled(t, l, "default/client", "default/friend", "default/server")
	client, server := l.Pod("client"), l.Pod("server")
	tap := startTap(t, l, node1)
	filter := func(command string) {
		l.NodeExec(node1, "nft", command)
	}
	filter("add table inet e2e")
	filter("add chain inet e2e forward { type filter hook forward priority 0; }")
	filter(fmt.Sprintf("add rule inet e2e forward oifname %q ip saddr %s drop", server.HostVeth, client.IP()))
	filter(fmt.Sprintf("add rule inet e2e forward oifname %q ip6 saddr %s drop", server.HostVeth, client.IP6()))

	for _, ip := range server.IPs {
		reach(t, l, tap, "client", ip, "same-node")
	}
	l.Apply(serverPolicy)
	await(t, l, tap, "friend", server.IP(), "true")
	stop := capture(t, nodeNetns(t, l, node1), server.HostVeth)
	for _, ip := range server.IPs {
		reach(t, l, tap, "friend", ip, "true")
		began := time.Now()
		out := l.Exec("client", "labtest", "get", "-i", "http://"+addrPort(ip, 8080)+"/")
		if !strings.HasPrefix(out, "HTTP/1.1 504") || !strings.Contains(out, "Underlane-Reason: connect-timeout") {
			t.Errorf("past the filter at %s: %s", ip, out)
		}
		if r := say(l, "client", addrPort(ip, 7000), "let me in"); r.Code == 0 || r.Stdout != "" {
			t.Errorf("past the filter at %s: %s", ip, r)
		}
		for _, port := range []int{8080, 7000} {
			e := tap.wait("what the filter stopped", func(e event) bool { return e.Time.After(began) && to(e, ip, port) && e.Reason != "" })
			if e.Reason != "connect-timeout" || e.Source.Metadata["pod"] != "client" || e.Destination.Metadata["pod"] != "server" {
				t.Error(e)
			}
		}
	}
	friendly := 0
	for _, s := range stop() {
		if slices.Contains(client.IPs, s.From.Addr()) {
			t.Errorf("the filter let %s to %s through", s.From, s.To)
		}
		if slices.Contains(l.Pod("friend").IPs, s.From.Addr()) && len(s.Payload) > 0 {
			friendly++
			if wire.NewWords("HTTP/1.1", "through the door").In(s.Payload) != "" {
				t.Errorf("plaintext on the link: %q", s.Payload)
			}
		}
	}
	if friendly == 0 {
		t.Error("nothing of the friend on the server's link")
	}
	// Without the filter it is the wire path, and with it gone the shortcut.
	filter("flush chain inet e2e forward")
	for _, ip := range server.IPs {
		reach(t, l, tap, "client", ip, "true")
	}
	l.Delete(serverPolicy)
	await(t, l, tap, "client", server.IP(), "same-node")
}

// reach talks to the server and wants tls of it.
func reach(t *testing.T, l *lab.Lab, tap *tapReader, client string, ip netip.Addr, tls string) {
	t.Helper()
	began := time.Now()
	if out := l.Exec(client, "labtest", "get", "-i", "http://"+addrPort(ip, 8080)+"/"); !strings.HasPrefix(out, "HTTP/1.1 200") {
		t.Errorf("%s to %s: %s", client, ip, out)
	}
	if r := say(l, client, addrPort(ip, 7000), "through the door"); r.Stdout != "through the door" {
		t.Errorf("%s to %s: %s", client, ip, r)
	}
	for _, port := range []int{8080, 7000} {
		e := tap.wait("traffic", func(e event) bool {
			return e.Time.After(began) && to(e, ip, port) && e.Source.Metadata["pod"] == client
		})
		if e.TLS != tls {
			t.Errorf("want tls=%s: %s", tls, e)
		}
	}
}

// await waits until requests from client go by tls.
func await(t *testing.T, l *lab.Lab, tap *tapReader, client string, ip netip.Addr, tls string) {
	t.Helper()
	l.Eventually(patience, func() error {
		began := time.Now()
		l.Exec(client, "labtest", "get", "http://"+addrPort(ip, 8080)+"/")
		e := tap.wait("a request", func(e event) bool {
			return e.Time.After(began) && to(e, ip, 8080) && e.RequestInitEvent != nil && e.Source.Metadata["pod"] == client
		})
		if e.TLS != tls {
			return fmt.Errorf("tls=%s, want %s", e.TLS, tls)
		}
		return nil
	})
}
