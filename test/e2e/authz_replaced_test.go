package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/underlane/underlane/test/lab"
)

// replacedPolicies let clients of the account friend connect to pods with the label app:
// server, and nobody to those with the label app: closed.
const replacedPolicies = `---
apiVersion: policy.underlane.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: friends, namespace: default}
spec:
  targetRefs: [{group: "", kind: Pod, selector: {matchLabels: {app: server}}}]
  action: ALLOW
  enforcementLevel: Network
  rules: [{sources: [{type: ServiceAccount, serviceAccount: {name: friend}}]}]
---
apiVersion: policy.underlane.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: nobody, namespace: default}
spec:
  targetRefs: [{group: "", kind: Pod, selector: {matchLabels: {app: closed}}}]
  action: ALLOW
  enforcementLevel: Network
`

// at gives a pod an address that it shares with the pods before and after it.
func (p podSpec) at(index int) podSpec {
	p.Annotations = merge(p.Annotations, map[string]string{"lab.underlane.io/index": fmt.Sprint(index)})
	return p
}

// TestPolicyPodReplaced: a pod that gets the address of one before has its own identity from its
// first moment: what the other was allowed it is not, and the other way round. So it is with the
// policies of a server, whatever connections its clients have kept. Clients are on the server's
// node and on another.
func TestPolicyPodReplaced(t *testing.T) {
	t.Parallel()
	l := lab.Up(t, lab.Options{}, manifests(serverPod("server", node2))+replacedPolicies)
	waitEnrolled(t, l, "default/server")
	s := newMidServer(t, l, "server")
	tap := startTap(t, l, node2)
	address := addrPort(l.Pod("server").IP(), midWeb)
	for _, node := range []string{node1, node2} {
		t.Run("a client on "+node, func(t *testing.T) {
			side := map[string]string{node1: "INBOUND", node2: "OUTBOUND"}[node] // who reports: on one node no agent is between
			ip := ""
			var before []midFlow
			for i, account := range []string{"friend", "other", "friend", "other"} {
				// From its first moment it asks: HTTP/1 and HTTP/2 by turns.
				name, path := fmt.Sprintf("%s-%s-%d", account, node, i), fmt.Sprintf("/first/%s/%d", node, i)
				p := clientPod(name, node).at(100)
				p.Account = account
				p.Command = []string{"labtest", "get", "--summary", "-n", "0", "--interval", "2ms", "--duration", "10m", fmt.Sprintf("--http2=%v", i > 1), "http://" + address + path}
				l.Apply(p.manifest())
				waitEnrolled(t, l, "default/"+name)
				if now := l.Pod(name).IP().String(); ip != "" && now != ip {
					t.Fatalf("%s has the address %s, the test needs %s", name, now, ip)
				}
				ip = l.Pod(name).IP().String()
				for _, f := range before {
					for limit := time.Now().Add(patience); f.step() == nil; { // what came before may wait
						if time.Now().After(limit) {
							t.Fatalf("%s of the pod that has gone goes on", f.what)
						}
					}
				}
				before = nil
				c := newMidClient(t, l, s, name, "server")
				if account == "friend" {
					l.Eventually(patience, func() error { _, err := c.once(); return err })
					before = c.open(path)
					for _, f := range before {
						if err := f.step(); err != nil {
							t.Fatalf("%s, %s: %v", name, f.what, err)
						}
					}
				} else if let, err := c.once(); len(let) > 0 {
					t.Errorf("%s: let in: %v; others: %v", name, let, err)
				}
				want := map[string]int{"friend": 200, "other": 403}[account]
				tap.wait("the requests of "+name, func(e event) bool {
					return e.ResponseEndEvent != nil && e.ResponseEndEvent.Path == path && e.ResponseEndEvent.HTTPStatus == want && e.ProxyDirection == side
				})
				l.Delete(p.manifest())
				for _, e := range tap.all(func(e event) bool {
					return e.ResponseEndEvent != nil && e.ResponseEndEvent.Path == path && e.ProxyDirection == side && e.ResponseEndEvent.HTTPStatus == 200
				}) {
					if id := e.Source.Metadata["identity"]; account != "friend" || id != identityOf("default", "friend").String() {
						t.Errorf("%s, with the identity %q: %s", name, id, e)
						break
					}
				}
			}
		})
	}
	t.Run("the server", func(t *testing.T) {
		clients := map[string]podSpec{}
		for name, node := range map[string]string{"far": node1, "near": node2} {
			p := clientPod(name, node)
			p.Account = "friend"
			clients[name] = p
			l.Apply(p.manifest())
			waitEnrolled(t, l, "default/"+name)
		}
		open := map[string]*midClient{}
		for i, app := range []string{"server", "closed", "server", "closed"} {
			name := fmt.Sprintf("%s-%d", app, i)
			p := serverPod(name, node2).at(101)
			p.Labels = merge(meshed, map[string]string{"app": app})
			l.Apply(p.manifest())
			waitEnrolled(t, l, "default/"+name)
			s := newMidServer(t, l, name)
			for client := range clients {
				c := open[client]
				if c == nil {
					c = newMidClient(t, l, s, client, name)
					open[client] = c
				}
				c.s = s
				if app == "closed" {
					if let, err := c.once(); len(let) > 0 {
						t.Errorf("%s to %s: let in: %v; others: %v", client, name, let, err)
					} else if strings.Count(err.Error(), "policy-denied") != 2 {
						t.Errorf("%s to %s: %v, want the reason policy-denied in HTTP/1 and HTTP/2", client, name, err)
					}
					continue
				}
				l.Eventually(patience, func() error { _, err := c.once(); return err })
				for _, f := range c.open(name) {
					if err := f.step(); err != nil {
						t.Errorf("%s to %s, %s: %v", client, name, f.what, err)
					}
				}
			}
			l.Delete(p.manifest())
		}
	})
}
