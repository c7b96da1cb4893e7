package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/underlane/underlane/test/lab"
)

// watched is a pod that is observed, and not in the mesh.
func watched(p podSpec) podSpec {
	p.Labels = map[string]string{"underlane.io/mesh": "observe"}
	return p
}

// waitObserved waits until the agent watches connections between two pods: until tap shows
// a request of one to the other.
func waitObserved(t *testing.T, l *lab.Lab, tap *tapReader, client, url string) {
	t.Helper()
	l.Eventually(patience, func() error {
		if r := l.TryExec(client, "labtest", "get", "--fresh", url); r.Code != 0 {
			return fmt.Errorf("%s", r)
		}
		for range 20 {
			if len(tap.all(func(e event) bool { return e.ResponseEndEvent != nil })) > 0 {
				return nil
			}
			time.Sleep(25 * time.Millisecond)
		}
		return fmt.Errorf("tap does not show requests of %s", client)
	})
}

// waitNamed waits until events name a client of another node. The agent waits 100 ms at most for
// the controller to say whose the address is, and tells the event without a name then: slow
// machines take longer.
func waitNamed(t *testing.T, l *lab.Lab, tap *tapReader, client, url string) {
	t.Helper()
	named := func(e event) bool { return e.ResponseEndEvent != nil && e.Source.Metadata["pod"] == client }
	l.Eventually(patience, func() error {
		if r := l.TryExec(client, "labtest", "get", "--fresh", url); r.Code != 0 {
			return fmt.Errorf("%s", r)
		}
		for range 20 {
			if len(tap.all(named)) > 0 {
				return nil
			}
			time.Sleep(25 * time.Millisecond)
		}
		return fmt.Errorf("tap does not name %s", client)
	})
}

// TestObserve: requests between pods that are not in the mesh, and observed, are in tap and
// metrics, and nothing of them is redirected.
func TestObserve(t *testing.T) {
	t.Parallel()
	outsider := clientPod("outsider", node1)
	outsider.Labels = nil
	l := lab.Up(t, lab.Options{}, manifests(
		watched(serverPod("server", node1)), watched(clientPod("near", node1)), watched(clientPod("far", node2)), outsider))
	server := "http://" + addrPort(l.Pod("server").IP(), 8080)
	tap := startTap(t, l, node1)
	waitObserved(t, l, tap, "near", server+"/first")
	waitNamed(t, l, tap, "far", server+"/first?from=far")

	for _, c := range []struct {
		client, path string
		status       int
		bytes        uint64 // of the response; 0: not compared
		least        time.Duration
		args         []string
	}{
		{"near", "/bytes/5", 200, 5, 0, nil},
		{"near", "/bytes/3000000", 200, 3000000, 0, nil},
		{"near", "/status/503", 503, 0, 0, nil},
		{"near", "/delay/300ms", 200, 0, 300 * time.Millisecond, nil},
		{"far", "/bytes/70000?from=far", 200, 70000, 0, nil},
		{"outsider", "/bytes/6?from=outsider", 200, 6, 0, nil},
	} {
		r := l.TryExec(c.client, append([]string{"labtest", "get", "-i"}, append(c.args, server+c.path)...)...)
		if !strings.Contains(r.Stdout, fmt.Sprint(c.status)) {
			t.Fatalf("%s: got %s", c.path, r)
		}
		end := tap.wait("the end of "+c.path, func(e event) bool {
			return e.ResponseEndEvent != nil && e.ResponseEndEvent.Path == c.path
		})
		got := end.ResponseEndEvent
		if got.Method != "GET" || got.HTTPStatus != c.status || got.Authority != strings.TrimPrefix(server, "http://") || got.Reset ||
			c.bytes > 0 && got.ResponseBytes != c.bytes || end.Origin != "kernel" || end.TLS != "" && end.TLS != "not-proxied" || end.Protocol != "http1" {
			t.Errorf("%s of %s: got the event %s", c.path, c.client, end)
		}
		if end.Source.Metadata["pod"] != c.client || end.Destination.Metadata["pod"] != "server" || end.Destination.Port != 8080 {
			t.Errorf("%s of %s: got the event %s, want one from the client to the server", c.path, c.client, end)
		}
		if want := map[string]string{"near": "OUTBOUND", "far": "INBOUND", "outsider": "INBOUND"}[c.client]; end.ProxyDirection != want {
			t.Errorf("%s of %s: got the direction %s, want %s", c.path, c.client, end.ProxyDirection, want)
		}
		first := tap.wait("the request "+c.path, func(e event) bool { return e.RequestInitEvent != nil && e.RequestInitEvent.Path == c.path })
		if spent := end.Time.Sub(first.Time); spent < c.least || spent > patience {
			t.Errorf("%s took %v, want %v or more", c.path, spent, c.least)
		}
		if n := len(tap.all(func(e event) bool { return e.ResponseEndEvent != nil && e.ResponseEndEvent.Path == c.path })); n != 1 {
			t.Errorf("%s is shown %d times", c.path, n)
		}
	}

	// Nothing is redirected: the server sees its client itself, and no agent has a listener.
	open := dialFrom(t, l, "near").raw(t, addrPort(l.Pod("server").IP(), 8080))
	open.send("GET /addr HTTP/1.1\r\nHost: x\r\n\r\n")
	if _, body := open.response("GET"); !strings.Contains(body, open.LocalAddr().String()) {
		t.Errorf("the server sees another client than %s:\n%s", open.LocalAddr(), body)
	}
	for _, pod := range []string{"near", "server"} {
		if out := l.Exec(pod, "cat", "/proc/net/tcp"); strings.Contains(out, fmt.Sprintf("%04X", 15001)) {
			t.Errorf("an agent listens in %s:\n%s", pod, out)
		}
	}
	if n := agentStatus(t, l, node1).OpenConnections; n != 0 {
		t.Errorf("the agent carries %d connections", n)
	}
	observedFigures(t, l, "near", "server", server+"/bytes/5")
	samples := metrics(t, l, node1)
	if n := metric(samples, "request_total", "direction=outbound", "pod=near"); n < 5 {
		t.Errorf("request_total of the client is %v, want 5 or more", n)
	}
	for _, reason := range []string{"observe-lost", "observe-read-failed", "observe-gap"} {
		if n := metric(samples, "underlane_kernel_events_total", "reason="+reason); n != 0 {
			t.Errorf("%s is %v", reason, n)
		}
	}
}

// TestObserveKernelPath: requests on connections of the kernel path are shown as those that the
// proxy carries, with the Service that was called, and in the metrics, once each.
func TestObserveKernelPath(t *testing.T) {
	t.Parallel()
	server := serverPod("server", node1)
	server.Annotations = map[string]string{"underlane.io/opaque-ports": "8080"}
	l := lab.Up(t, lab.Options{}, manifests(server, clientPod("near", node1)), strings.ReplaceAll(opaqueService("server"), "7000", "8080"))
	waitEnrolled(t, l, "default/server", "default/near")
	tap := startTap(t, l, node1)
	for name, host := range map[string]string{
		"pod": addrPort(l.Pod("server").IP(), 8080), "service": addrPort(l.ServiceIPs("default/server")[0], 8080),
	} {
		path := "/bytes/70000?by=" + name
		of := func(e event) bool { return e.ResponseEndEvent != nil && e.ResponseEndEvent.Path == path }
		l.Eventually(patience, func() error {
			if r := l.TryExec("near", "labtest", "get", "--fresh", "http://"+host+path); r.Code != 0 {
				return fmt.Errorf("%s", r)
			}
			for range 20 {
				if len(tap.all(of)) > 0 {
					return nil
				}
				time.Sleep(25 * time.Millisecond)
			}
			return fmt.Errorf("tap shows no request to %s", host)
		})
		end := tap.all(of)[0]
		if got := end.ResponseEndEvent; got.HTTPStatus != 200 || got.ResponseBytes != 70000 || got.Authority != host || end.Origin != "kernel" ||
			end.TLS != "same-node" || end.ProxyDirection != "OUTBOUND" || end.Source.Metadata["pod"] != "near" || end.Destination.Metadata["pod"] != "server" {
			t.Errorf("%s: got the event %s, want one from near to server within the node", name, end)
		}
	}
	ends := len(tap.all(func(e event) bool { return e.ResponseEndEvent != nil }))
	l.Eventually(patience, func() error {
		if n := metric(metrics(t, l, node1), "response_total", "direction=outbound", "pod=near", "tls=same-node"); int(n) != ends {
			return fmt.Errorf("response_total is %v, and tap has %d", n, ends)
		}
		return nil
	})
}

// observedFigures checks that stat, edges and top have requests of pods that are observed.
func observedFigures(t *testing.T, l *lab.Lab, client, server, url string) {
	t.Helper()
	var rows []statRow
	if out := l.Agent(node1, "stat", "pod", "--unmeshed", "-o", "json", "-t", "10m"); json.Unmarshal([]byte(out), &rows) != nil {
		t.Fatalf("stat prints %s", out)
	}
	i := slices.IndexFunc(rows, func(r statRow) bool { return r.Name == server })
	if i < 0 || rows[i].Success == nil || rows[i].P99 == nil || *rows[i].Success <= 0 {
		t.Errorf("stat has no requests of %s: %+v", server, rows)
	}
	if out := l.Agent(node1, "edges", "pod", "-o", "json", "-t", "10m"); !strings.Contains(out, `"`+client+`"`) || !strings.Contains(out, `"`+server+`"`) {
		t.Errorf("edges has none from %s to %s:\n%s", client, server, out)
	}
	l.Eventually(patience, func() error {
		asking := l.PodCommand(client, "labtest", "get", "-n", "2000", url)
		if err := asking.Start(); err != nil {
			return err
		}
		out := l.Agent(node1, "top", "--once", "--duration", "2s", "-o", "json")
		_ = asking.Process.Kill()
		_ = asking.Wait()
		if !strings.Contains(out, strings.TrimPrefix(url[strings.LastIndex(url, ":"):], ":8080")) {
			return fmt.Errorf("top has no row of %s:\n%s", url, out)
		}
		return nil
	})
}
