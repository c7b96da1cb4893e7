package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/underlane/underlane/test/lab"
)

// TestListenersAreDestroyed: a program in a pod destroys the agent's listeners there, as
// one with CAP_NET_ADMIN can. The pod is in the mesh again at once, without lines and lines
// in the log, and other pods do not notice.
func TestListenersAreDestroyed(t *testing.T) {
	l := lab.Up(t, lab.Options{}, manifests(serverPod("server", node2), clientPod("client", node1)))
	waitEnrolled(t, l, "default/server", "default/client")
	get := func() error {
		if r := l.TryExec("default/client", "labtest", "get", "http://"+l.Pod("default/server").IP().String()+":8080/bytes/1"); r.Code != 0 {
			return fmt.Errorf("%s", r)
		}
		return nil
	}
	l.Eventually(patience, get)
	before := metric(metrics(t, l, node2), "request_total", "direction=inbound", "tls=true")
	for round := range 3 {
		for _, pod := range []string{"default/server", "default/client"} {
			out := l.Exec(pod, "ss", "-KHltn", "( sport = 15001 or sport = 15006 )")
			if got := strings.Count(out, "\n"); got != 4 {
				t.Fatalf("ss -K in %s destroys %d listeners, want 4:\n%s", pod, got, out)
			}
		}
		// They listen again, and are in the maps again.
		for _, node := range []string{node1, node2} {
			l.Eventually(patience, func() error {
				if n, want := metric(metrics(t, l, node), "underlane_listeners_revived_total"), 4*(round+1); int(n) < want {
					return fmt.Errorf("%s: %v listeners were revived, want %d", node, n, want)
				}
				var entries []any
				bpftool(t, &entries, "map", "dump", "pinned", nodeOf(t, l, node).Pins+"/listeners")
				if len(entries) < 4 {
					return fmt.Errorf("%d listeners of the pod on %s are in the map, want 4", len(entries), node)
				}
				return nil
			})
		}
		// The map may have lost an entry after that.
		l.Eventually(patience, get)
	}
	for _, node := range []string{node1, node2} {
		if n := strings.Count(l.Logs(node), "destroyed a listener"); n < 1 || n > 3 {
			t.Errorf("%s: %d lines of the log are about it, want 1 to 3:\n%s", node, n, l.Logs(node))
		}
	}
	l.Eventually(patience, func() error {
		if err := get(); err != nil {
			return err
		}
		if after := metric(metrics(t, l, node2), "request_total", "direction=inbound", "tls=true"); after <= before {
			return fmt.Errorf("%v requests over mTLS after it, %v before: they pass the mesh by", after, before)
		}
		return nil
	})
}
