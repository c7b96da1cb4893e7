package e2e

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"
)

// TestNodeLoss: a node with two of a service's three endpoints goes away
// without a word. What was under way to it waits until that is noticed; from
// then on no request does. When the node is back, its endpoints are too.
func TestNodeLoss(t *testing.T) {
	l := upL7(t, webPod("web-1", node1), webPod("web-2", node2), webPod("web-3", node2))
	l.Apply(webService)
	waitEnrolled(t, l.Lab, "default/web-1", "default/web-2", "default/web-3")
	url := "http://" + addrPort(l.ServiceIPs("default/web")[0], 80) + "/who"
	ejected := func() float64 {
		return metric(metrics(t, l.Lab, node1), "underlane_endpoints", "dst_service=web", "dst_port=80", "state=ejected")
	}
	seen := func(client *http.Client, n int) map[string]bool {
		hosts := map[string]bool{}
		for range n {
			req, err := http.NewRequest("GET", url, nil)
			if err != nil {
				t.Fatal(err)
			}
			hosts[do(t, client, req).Hostname] = true
		}
		return hosts
	}
	fresh := l.client(t, false)
	fresh.Transport.(*http.Transport).DisableKeepAlives = true
	clients := map[string]*http.Client{"HTTP/1": l.client(t, false), "a connection each": fresh, "HTTP/2": l.client(t, true)}
	for name, c := range clients {
		l.Eventually(2*patience, func() error {
			if hosts := seen(c, 60); len(hosts) != 3 {
				return fmt.Errorf("%s: answers from %v before anything happened", name, hosts)
			}
			return nil
		})
	}

	const limit = 1800 * time.Millisecond // below the time after which another endpoint is tried, and above what a busy machine takes
	var traffic sync.WaitGroup
	lost := make(chan struct{})
	for name, c := range clients {
		traffic.Go(func() {
			var slow, failed, after int
			var worst time.Duration
			for isLost := lost; after < 200; time.Sleep(20 * time.Millisecond) {
				select {
				case <-isLost:
					isLost, after = nil, 1
				default:
				}
				if after > 0 {
					after++
				}
				began := time.Now()
				resp, err := c.Get(url)
				if err == nil {
					resp.Body.Close()
				}
				took := time.Since(began)
				worst = max(worst, took)
				if took > limit {
					slow++
				}
				if err != nil || resp.StatusCode != http.StatusOK {
					failed++
				}
			}
			t.Logf("%s: %d requests waited, the longest %v; %d failed", name, slow, worst, failed)
			if slow > 1 || failed > 1 || worst > 8*time.Second {
				t.Errorf("%s: %d requests waited, up to %v, and %d failed: only what was under way should", name, slow, worst, failed)
			}
		})
	}
	time.Sleep(time.Second)
	l.NodeExec(node2, "nft", "add table inet lost; add chain inet lost everything { type filter hook prerouting priority -400; policy drop; }")
	close(lost)
	traffic.Wait()
	if n := ejected(); n != 2 {
		t.Errorf("%v endpoints are ejected, want the two of the lost node", n)
	}

	l.NodeExec(node2, "nft", "delete table inet lost")
	l.Eventually(2*patience, func() error {
		if n := ejected(); n > 0 {
			return fmt.Errorf("%v endpoints are still ejected", n)
		}
		return nil
	})
	l.Eventually(2*patience, func() error { // one that was slow once is left alone for a while
		if hosts := seen(clients["HTTP/1"], 100); len(hosts) != 3 {
			return fmt.Errorf("answers from %v after the node was back", hosts)
		}
		return nil
	})
}
