package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/limit/lease"
	"github.com/underlane/underlane/test/lab"
)

const sharedLimit = `---
apiVersion: policy.underlane.io/v1alpha1
kind: RateLimitPolicy
metadata: {name: users, namespace: default}
spec:
  targetRefs: [{group: "", kind: Pod, selector: {matchLabels: {tier: limited}}}]
  limits:
    - name: user
      requests: 50
      by: [{type: Header, header: x-user}]
      where: {authorization: {type: Inline, paths: [{type: PathPrefix, value: /api}]}}
    - {name: rare, requests: 2, per: 1h, where: {authorization: {type: Inline, paths: [{type: Exact, value: /rare}]}}}
`

// load makes requests of a user at a rate, as far as the machine can.
type load struct {
	asked, let, limited atomic.Int64
	other               atomic.Pointer[string] // another answer than these two
	stop                context.CancelFunc
	wait                sync.WaitGroup
}

func newLoad(t *testing.T, c *http.Client, url, user string, rate int) *load {
	ctx, cancel := context.WithCancel(t.Context())
	l := &load{stop: cancel}
	slots := make(chan struct{}, 16)
	l.wait.Go(func() {
		tick := time.NewTicker(time.Second / time.Duration(rate))
		defer tick.Stop()
		for ctx.Err() == nil {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			select {
			case slots <- struct{}{}:
			default:
				continue
			}
			l.wait.Go(func() {
				defer func() { <-slots }()
				switch got := askAs(c, url, user); got {
				case "200 ":
					l.let.Add(1)
				case "429 rate-limited":
					l.limited.Add(1)
				default:
					l.other.Store(&got)
				}
				l.asked.Add(1)
			})
		}
	})
	t.Cleanup(l.end)
	return l
}

func (l *load) end() {
	l.stop()
	l.wait.Wait()
}

// askAs returns the status and the reason of one request.
func askAs(c *http.Client, url, user string) string {
	r, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return err.Error()
	}
	if user != "" {
		r.Header.Set("X-User", user)
	}
	res, err := c.Do(r)
	if err != nil {
		return err.Error()
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return err.Error()
	}
	return fmt.Sprint(res.StatusCode, " ", res.Header.Get("Underlane-Reason"))
}

// TestSharedLimit: two nodes share a limit by a header. All that is let in stays within the
// bound of package lease, the busy node gets what the quiet one does not use, and other values
// of the header are counted by themselves, in both protocols, from the same node and another,
// also after the controller was restarted.
func TestSharedLimit(t *testing.T) {
	const rate, burst, nodes, ttl = 50.0, 50.0, 2.0, 2.0
	server := func(name, node string) podSpec {
		p := serverPod(name, node)
		p.Labels = merge(p.Labels, map[string]string{"tier": "limited"})
		return p
	}
	l := lab.Up(t, lab.Options{}, manifests(
		clientPod("near", node1), clientPod("far", node2), server("quiet", node1), server("busy", node2),
	))
	waitEnrolled(t, l, "default/near", "default/far", "default/quiet", "default/busy")
	tap := startTap(t, l, node2)
	url := func(pod string) string { return "http://" + addrPort(l.Pod(pod).IP(), 8080) + "/api/x" }
	near, grpc := clients(t, dialFrom(t, l, "near"), addrPort(l.Pod("busy").IP(), 8080))
	far, _ := clients(t, dialFrom(t, l, "far"), addrPort(l.Pod("busy").IP(), 8080))
	grpc.Close()
	l.Apply(sharedLimit)
	l.Eventually(patience, func() error { // the policy is in force
		rare := strings.Replace(url("busy"), "/api/x", "/rare", 1)
		if got := askAs(near[1], rare, ""); got != "429 rate-limited" {
			return fmt.Errorf("got %q", got)
		}
		return nil
	})

	begun := time.Now()
	quiet := newLoad(t, far[1], url("quiet"), "alice", 5)
	busy := []*load{newLoad(t, near[1], url("busy"), "alice", 60), newLoad(t, far[2], url("busy"), "alice", 60)}
	sum := func(of []*load, what func(*load) *atomic.Int64) (n int64) {
		for _, l := range of {
			n += what(l).Load()
		}
		return n
	}
	let := func(l *load) *atomic.Int64 { return &l.let }
	// lent waits until the busy node has more than its half of the rate.
	lent := func() {
		t.Helper()
		var best float64
		for end := time.Now().Add(patience); time.Now().Before(end); {
			before, from := sum(busy, let), time.Now()
			time.Sleep(3 * time.Second)
			got := float64(sum(busy, let)-before) / time.Since(from).Seconds()
			if best = max(best, got); got > 0.7*rate {
				t.Logf("the busy node has %.1f a second", got)
				return
			}
		}
		t.Fatalf("the busy node has %.1f a second at best, want more than half of %v", best, rate)
	}
	lent()
	for name, c := range map[string]*http.Client{"near, HTTP/1": near[1], "near, HTTP/2": near[2], "far, HTTP/1": far[1], "far, HTTP/2": far[2]} {
		for _, user := range []string{name, "other " + name} {
			if got := askAs(c, url("busy"), user); got != "200 " {
				t.Errorf("%s: another user gets %q", name, got)
			}
		}
		if got := askAs(c, strings.Replace(url("busy"), "/api", "/free", 1), "alice"); got != "200 " {
			t.Errorf("%s: a request that the limit is not about gets %q", name, got)
		}
	}
	var dump struct{ Limits []lease.Use }
	if err := json.Unmarshal([]byte(l.Agent(node2, "dump")), &dump); err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(dump.Limits, func(u lease.Use) bool {
		return strings.HasSuffix(u.Limit, " default/users user") && u.Value == "alice" && u.Rate > rate/nodes && u.Refused > 0
	}) {
		t.Errorf("the dump does not show the share: %+v", dump.Limits)
	}
	l.RestartController()
	lent()

	e := tap.wait("a request over the limit", func(e event) bool { return e.Reason == "rate-limited" && e.Policy != nil && e.Policy.Rule == "user" })
	if e.Policy.Object != "RateLimitPolicy.policy.underlane.io default/users" || e.Policy.Verdict != "denied" {
		t.Errorf("in tap: %+v", e.Policy)
	}
	// A gRPC call is refused as one.
	l.Eventually(patience, func() error {
		r, err := http.NewRequest(http.MethodPost, url("busy"), strings.NewReader(""))
		if err != nil {
			return err
		}
		r.Header.Set("Content-Type", "application/grpc")
		r.Header.Set("X-User", "alice")
		res, err := far[2].Do(r)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		_, _ = io.Copy(io.Discard, res.Body)
		if status := res.Header.Get("Grpc-Status"); status != "8" {
			return fmt.Errorf("grpc-status %q", status)
		}
		return nil
	})

	for _, l := range append(busy, quiet) {
		l.end()
		if other := l.other.Load(); other != nil {
			t.Errorf("an answer %q", *other)
		}
	}
	took := time.Since(begun).Seconds()
	got := float64(sum(busy, let) + quiet.let.Load())
	bound := rate*took + burst + nodes*(burst/nodes+rate/nodes*ttl+1)
	t.Logf("let in %.0f in %.1f s, the bound is %.0f; quiet: %d of %d", got, took, bound, quiet.let.Load(), quiet.asked.Load())
	if got > bound {
		t.Errorf("let in %.0f in %.1f s, want %.0f at most", got, took, bound)
	}
	if got, asked := quiet.let.Load(), quiet.asked.Load(); got < asked*3/4 {
		t.Errorf("the quiet node let in %d of %d, want nearly all", got, asked)
	}
}
