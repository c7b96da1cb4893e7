package e2e

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/underlane/underlane/test/lab"
)

// startOn runs a program until the test ends.
func startOn(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	cmd.Stdout, cmd.Stderr = nil, nil
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
	})
}

// nameserver makes a pod ask another resolver than the one in the pod, with more options.
func nameserver(t *testing.T, l *lab.Lab, pod, addr, options string) {
	t.Helper()
	path := filepath.Join("/run", l.Name(), "pods", strings.ReplaceAll(pod, "/", "_"), "resolv.conf")
	if err := os.WriteFile(path, []byte("nameserver "+addr+"\noptions timeout:5 attempts:3"+options+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestEgressDNS: destinations outside the mesh that have neither SNI nor Host are shown by
// the name that the client has resolved, by the C library's resolver and by Go's, of both
// families, from a server outside or in the pod; for this client only, and for as long as
// the answer is valid.
func TestEgressDNS(t *testing.T) {
	t.Parallel()
	const (
		host4, host6 = "203.0.113.7", "2001:db8:99::7"
		server       = "203.0.113.53"
	)
	skips := clientPod("skips", node1)
	skips.Annotations = map[string]string{"underlane.io/skip-outbound-ports": "7000-7002"}
	l := lab.Up(t, lab.Options{}, manifests(clientPod("client", node1), clientPod("near", node2), clientPod("other", node1), clientPod("forger", node1), clientPod("flood", node1), clientPod("stream", node1), skips))
	waitEnrolled(t, l, "default/client", "default/near", "default/other", "default/forger", "default/flood", "default/stream", "default/skips")
	for _, a := range nodeOf(t, l, node2).Addrs {
		if a.Is4() {
			outsideServer(t, l)
			l.NodeExec(node2, "ip", "addr", "add", server+"/32", "dev", "lo")
			l.NodeExec(node1, "ip", "route", "add", server+"/32", "via", a.String())
		} else {
			l.NodeExec(node2, "ip", "-6", "addr", "add", host6+"/128", "dev", "lo", "nodad")
			l.NodeExec(node1, "ip", "-6", "route", "add", host6+"/128", "via", a.String())
		}
	}
	startOn(t, l.NodeCommand(node2, "labtest", "resolver", "--ttl", "1", server+":53", "db.example.com="+host4, "db6.example.com="+host6))
	for _, pod := range []string{"client", "near", "other", "flood", "skips"} {
		nameserver(t, l, "default/"+pod, server, "")
	}
	nameserver(t, l, "default/stream", server, " use-vc") // over TCP
	taps := map[string]*tapReader{node1: startTap(t, l, node1), node2: startTap(t, l, node2)}

	// banner connects, and returns the name that tap has shown, when the connection has ended.
	calls := 0
	banner := func(pod, to string, port int) string {
		t.Helper()
		calls++
		mark := fmt.Sprintf("call %d", calls)
		r := say(l, pod, fmt.Sprintf("%s:%d", to, port), mark)
		if r.Code != 0 || !strings.Contains(r.Stdout, mark) {
			return "cut: " + r.String()
		}
		// "connected LOCAL -> REMOTE"
		own := strings.Fields(r.Stderr[strings.Index(r.Stderr, "connected"):])[1]
		at, err := netip.ParseAddrPort(own)
		if err != nil {
			t.Fatal(err)
		}
		node := node1
		if pod == "near" {
			node = node2
		}
		ended := func(e event) bool {
			return e.ConnCloseEvent != nil && e.Source.IP == at.Addr().String() && e.Source.Port == at.Port()
		}
		e := taps[node].wait("the end of "+mark+" from "+own, ended)
		if e.Reason != "" {
			t.Errorf("%s to %s: %s", pod, to, e)
		}
		return e.DNSName
	}
	l.Eventually(patience, func() error {
		for _, host := range []string{host4, "[" + host6 + "]"} {
			if got := banner("client", host, 7001); got != "" {
				return fmt.Errorf("by address: %q", got)
			}
		}
		if got := l.TryExec("client", "labtest", "ask", server+":53", "nothing.example.com"); got.Code != 0 {
			return fmt.Errorf("the resolver: %s", got)
		}
		return nil
	})

	// The port says whether the server or the client speaks first.
	for _, port := range []int{7000, 7001} {
		for _, pod := range []string{"client", "near", "skips", "stream"} {
			for _, name := range []string{"db.example.com", "db6.example.com"} {
				if got := banner(pod, name, port); got != name {
					t.Errorf("%s to %s, port %d: tap shows %q", pod, name, port, got)
				}
			}
		}
		if got := banner("other", host4, port); got != "" {
			t.Errorf("a pod that has resolved nothing, port %d: tap shows %q", port, got)
		}
	}
	if got := l.Exec("other", "getent", "ahostsv4", "db.example.com"); !strings.Contains(got, host4) {
		t.Errorf("getent: %s", got)
	}
	if got := banner("other", host4, 7001); got != "db.example.com" {
		t.Errorf("after getent: tap shows %q", got)
	}

	// The figures have it, with the addresses beside it.
	l.Eventually(patience, func() error {
		edges := l.Agent(node1, "edges", "pod")
		for _, line := range []string{"client external/db.example.com:7001", "client external/db6.example.com:7000", "skips external/db.example.com:7001"} {
			if !strings.Contains(strings.Join(strings.Fields(edges), " "), line) {
				return fmt.Errorf("no line %q in edges:\n%s", line, edges)
			}
		}
		var rows []struct {
			Client, Destination string
			Addresses           []string
			Connections         int
		}
		out := l.Agent(node1, "egress", "stat", "-o", "json")
		if err := json.Unmarshal([]byte(out), &rows); err != nil {
			return err
		}
		for _, r := range rows {
			if r.Client == "po/client" && r.Destination == "db.example.com:7001" && fmt.Sprint(r.Addresses) == "["+host4+":7001]" && r.Connections > 0 {
				return nil
			}
		}
		return fmt.Errorf("db.example.com is not in egress stat: %s", out)
	})
	suggested := l.Agent(node1, "egress", "suggest")
	for _, want := range []string{`cidr: "203.0.113.7/32"`, `203.0.113.7:7001 was an address of "db.example.com:7001"`, `cidr: "2001:db8:99::7/128"`} {
		if !strings.Contains(suggested, want) {
			t.Errorf("egress suggest has no %s:\n%s", want, suggested)
		}
	}

	// Who sends an answer that nobody asked for changes nothing, and who fools itself fools
	// nobody else.
	const forged = "forged.example.com"
	victim := l.Pod("client").IPs[0].String()
	startOn(t, l.PodCommand("client", "labtest", "resolver", "0.0.0.0:5353", "x.test="+host4)) // an open UDP port
	startOn(t, l.PodCommand("forger", "labtest", "resolver", "127.0.0.1:53", forged+"="+host4))
	l.Eventually(patience, func() error { // until both listen
		for pod, to := range map[string]string{"forger": "127.0.0.1:53", "client": "127.0.0.1:5353"} {
			if got := l.TryExec(pod, "labtest", "ask", to, "x.test"); got.Code != 0 {
				return fmt.Errorf("%s: %s", pod, got)
			}
		}
		return nil
	})
	l.Exec("forger", "labtest", "forge", l.Pod("forger").IPs[0].String()+":53", victim+":5353", forged+"="+host4)
	if got := banner("forger", forged, 7001); got != forged {
		t.Errorf("with a resolver in the pod: tap shows %q", got)
	}
	if got := banner("client", "db.example.com", 7001); got != "db.example.com" {
		t.Errorf("after a forged answer: tap shows %q", got)
	}
	if dump := l.Agent(node1, "dump"); strings.Count(dump, `"name": "`+forged+`"`)+strings.Count(dump, `"name":"`+forged+`"`) != 1 {
		t.Errorf("the forged name is not known for its own pod only:\n%s", dump[max(0, strings.Index(dump, "dnsNames")):])
	}

	// A flood of answers is bounded, and others still have theirs.
	l.Exec("flood", "labtest", "ask", "--count", "3000", server+":53", "db.example.com")
	if n := agentStatus(t, l, node1).KernelEvents["dns-limited"]; n == 0 {
		t.Error("no answer of a flood was left out")
	}
	if got := banner("client", "db6.example.com", 7001); got != "db6.example.com" {
		t.Errorf("after a flood: tap shows %q", got)
	}

	// An answer that is not valid any more says nothing.
	l.Eventually(patience, func() error {
		if got := banner("near", host4, 7001); got != "" {
			return fmt.Errorf("the name is still known: %q", got)
		}
		return nil
	})
}
