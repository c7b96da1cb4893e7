package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/underlane/underlane/test/lab"
)

// idleClient makes one request after another on the connections that it has.
type idleClient struct {
	name string
	http *http.Transport
	url  string

	mu           sync.Mutex
	let, refused int
	wrong        []string
}

func (c *idleClient) run(ctx context.Context) {
	for i := 0; ctx.Err() == nil; i++ {
		c.note(c.ask(ctx))
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(i%7) * time.Millisecond): // so that cuts come at any time of an exchange
		}
	}
}

// ask makes a request that a client does not repeat by itself (RFC 9110 §9.2.2).
func (c *idleClient) ask(ctx context.Context) (string, error) {
	req, err := http.NewRequestWithContext(context.WithoutCancel(ctx), "POST", c.url, strings.NewReader("hello"))
	if err != nil {
		return "", err
	}
	req.GetBody = nil
	resp, err := c.http.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return fmt.Sprint(resp.StatusCode, " ", resp.Header.Get("Underlane-Reason")), err
}

func (c *idleClient) note(got string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err != nil:
		c.wrong = append(c.wrong, err.Error())
	case got == "200 ":
		c.let++
	case got == "403 policy-denied":
		c.refused++
	default:
		c.wrong = append(c.wrong, got)
	}
}

func (c *idleClient) counts() (let, refused int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.let, c.refused
}

// TestPolicyIdleConnections: clients of the same node, of another and outside the mesh that go on
// asking on their idle connections while a policy that denies them comes and goes get an answer or the
// reason each time, and never the end of a connection.
func TestPolicyIdleConnections(t *testing.T) {
	t.Parallel()
	outside := clientPod("outside", node1)
	outside.Labels = nil
	l := lab.Up(t, lab.Options{}, manifests(clientPod("far", node1), clientPod("near", node2), outside, serverPod("server", node2)))
	waitEnrolled(t, l, "default/far", "default/near", "default/server")
	web := &http.Server{Protocols: new(http.Protocols), Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
	})}
	web.Protocols.SetHTTP1(true)
	web.Protocols.SetUnencryptedHTTP2(true)
	at := listenIn(t, l, "server", midWeb)
	go func() { _ = web.Serve(at) }()
	t.Cleanup(func() { web.Close() })

	ctx, cancel := context.WithCancel(t.Context())
	var all []*idleClient
	var done sync.WaitGroup
	for _, pod := range []string{"far", "near", "outside"} {
		d := dialFrom(t, l, pod)
		for _, version := range []string{"HTTP/1", "HTTP/2"} {
			p := new(http.Protocols)
			p.SetHTTP1(version == "HTTP/1")
			p.SetUnencryptedHTTP2(version == "HTTP/2")
			tr := &http.Transport{Protocols: p, DialContext: d.DialContext}
			t.Cleanup(tr.CloseIdleConnections)
			c := &idleClient{name: pod + ", " + version, http: tr, url: "http://" + net.JoinHostPort(l.Pod("server").IP().String(), fmt.Sprint(midWeb)) + "/"}
			all = append(all, c)
			done.Go(func() { c.run(ctx) })
		}
	}
	defer func() {
		cancel()
		done.Wait()
		for _, c := range all {
			if len(c.wrong) > 0 {
				t.Errorf("%s: %d of %d requests got neither an answer nor the reason, first %s", c.name, len(c.wrong), len(c.wrong)+c.let+c.refused, c.wrong[0])
			}
		}
	}()
	const deny = `---
apiVersion: policy.underlane.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: nobody, namespace: default}
spec:
  targetRefs: [{group: "", kind: Pod, selector: {matchLabels: {app: server}}}]
  action: DENY
  enforcementLevel: Network
  rules: [{name: all}]
`
	some := func(what string, of func(*idleClient) int) {
		t.Helper()
		before := map[*idleClient]int{}
		for _, c := range all {
			before[c] = of(c)
		}
		l.Eventually(patience, func() error {
			for _, c := range all {
				if of(c) < before[c]+20 {
					return fmt.Errorf("%s: %d requests were %s, want 20", c.name, of(c)-before[c], what)
				}
			}
			return nil
		})
	}
	let := func(c *idleClient) int { n, _ := c.counts(); return n }
	refused := func(c *idleClient) int { _, n := c.counts(); return n }
	for range 4 {
		some("let in", let)
		l.Apply(deny)
		some("refused", refused)
		l.Delete(deny)
	}
}
