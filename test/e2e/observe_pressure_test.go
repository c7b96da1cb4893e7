package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/underlane/underlane/test/lab"
)

// observedCounts are the counters of observed connections of a node.
func observedCounts(t *testing.T, l *lab.Lab) map[string]float64 {
	t.Helper()
	counts, samples := map[string]float64{}, metrics(t, l, node1)
	for _, reason := range []string{"record", "limited", "lost", "shed", "gap", "dropped", "untold"} {
		counts[reason] = metric(samples, "underlane_kernel_events_total", "reason=observe-"+reason)
	}
	counts["responses"] = metric(samples, "response_total", "pod=server", "direction=inbound", "tls=not-proxied")
	return counts
}

// TestObserveHeldBack: an agent that cannot read for a while loses what does not fit into the
// ring, and no more memory than that. Everything that is lost is counted, tap says so, and what
// comes afterwards is whole.
func TestObserveHeldBack(t *testing.T) {
	outsider := clientPod("outsider", node1)
	outsider.Labels = nil
	l := lab.Up(t, lab.Options{}, manifests(watched(serverPod("server", node1)), outsider))
	server := "http://" + addrPort(l.Pod("server").IP(), 8080)
	tap := startTap(t, l, node1)
	waitObserved(t, l, tap, "outsider", server+"/first")
	pid := nodeOf(t, l, node1).Agent.Pid
	before, rss := observedCounts(t, l), memory(t, pid, "VmRSS")
	if before["lost"]+before["limited"]+before["shed"] > 0 {
		t.Fatalf("something was lost before: %v", before)
	}

	// A head of more than 256 bytes takes a record of 1 KiB: the ring of 4 MiB has room for some
	// 3,000.
	const held = 8000
	url := server + "/bytes/5?held=" + strings.Repeat("x", 500)
	l.SignalAgent(node1, "STOP")
	r := l.TryExec("outsider", "labtest", "get", "-n", fmt.Sprint(held), url)
	l.SignalAgent(node1, "CONT")
	if r.Code != 0 {
		t.Fatalf("the server, whose agent is stopped: %s", r)
	}

	// Each request and each response is a segment, or more: it was read, or counted as lost.
	var after map[string]float64
	l.Eventually(patience, func() error {
		after = observedCounts(t, l)
		known := after["record"] - before["record"] + after["lost"] + after["limited"] + after["shed"]
		if after["lost"] == 0 || known < 2*held {
			return fmt.Errorf("of %d segments %v are accounted for: %v", 2*held, known, after)
		}
		return nil
	})
	if n := after["responses"] - before["responses"]; n < 100 || n > held {
		t.Errorf("%v responses are counted, want those in the ring, some thousands", n)
	}
	if now := memory(t, pid, "VmRSS"); now > rss+(48<<20) {
		t.Errorf("the agent had %d MiB, and has %d: what was lost was kept", rss>>20, now>>20)
	}

	// Another connection is seen whole.
	const then = 300
	l.Exec("outsider", "labtest", "get", "-n", fmt.Sprint(then), server+"/bytes/5?then")
	l.Eventually(patience, func() error {
		if n := observedCounts(t, l)["responses"] - after["responses"]; n != then {
			return fmt.Errorf("%v responses are counted, want %d", n, then)
		}
		return nil
	})
	seen := func(e event) bool { return e.ResponseEndEvent != nil && e.ResponseEndEvent.Path == "/bytes/5?then" }
	l.Eventually(patience, func() error {
		if n := len(tap.all(seen)); n != then {
			return fmt.Errorf("tap shows %d requests, want %d", n, then)
		}
		return nil
	})
	if !tap.warned("were lost") {
		t.Error("tap does not say that something was lost")
	}
	if last := observedCounts(t, l); last["lost"] != after["lost"] || last["untold"] != after["untold"] {
		t.Errorf("something was lost afterwards: %v, before that %v", last, after)
	}
}
