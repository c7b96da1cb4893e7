package translate_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/underlane/underlane/pkg/controller/translate"
	"github.com/underlane/underlane/pkg/controller/watch"
	"github.com/underlane/underlane/pkg/policy/authz"
)

// TestRateLimits: which pods have the limits of a policy, and how many nodes share them.
func TestRateLimits(t *testing.T) {
	var text strings.Builder
	text.WriteString("apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {underlane.io/mesh: enabled}}\n")
	for i := range 6 {
		fmt.Fprintf(&text, `---
apiVersion: v1
kind: Pod
metadata: {name: api-%d, namespace: shop, uid: api-%d, labels: {app: api}}
spec: {nodeName: node-%d, serviceAccountName: api, containers: [{name: c, image: i}]}
status: {podIP: 10.0.0.%d}
`, i, i, i%5, i+1)
	}
	text.WriteString(`---
apiVersion: v1
kind: Pod
metadata: {name: other, namespace: shop, uid: other, labels: {app: other}}
spec: {nodeName: node-9, serviceAccountName: api, containers: [{name: c, image: i}]}
status: {podIP: 10.0.0.99}
---
apiVersion: policy.underlane.io/v1alpha1
kind: RateLimitPolicy
metadata: {name: users, namespace: shop}
spec:
  targetRefs: [{group: "", kind: Pod, selector: {matchLabels: {app: api}}}]
  limits:
    - {name: user, requests: 600, per: 1m, burst: 20, by: [{type: Header, header: X-User}]}
    - {requests: 5}
---
apiVersion: policy.underlane.io/v1alpha1
kind: RateLimitPolicy
metadata: {name: node, namespace: shop}
spec:
  scope: Node
  targetRefs: [{group: "", kind: Pod, selector: {matchLabels: {app: api}}}]
  limits: [{requests: 7}]
`)
	objects, err := watch.Decode([]byte(text.String()))
	if err != nil {
		t.Fatal(err)
	}
	r := translate.Translate(objects, "td")
	if len(r.Problems) > 0 {
		t.Error(r.Problems)
	}
	for _, w := range r.Workloads {
		if want := w.Name != "other"; w.Limited != want || w.RequestRules != want || w.Authorized || (r.Authz[w.UID] != nil) != want {
			t.Errorf("%s: %+v", w.Name, w)
		}
	}
	const kind = "RateLimitPolicy.policy.underlane.io shop/"
	want := []authz.Limit{
		{Policy: kind + "node", Number: 1, Requests: 7, Per: time.Second, Burst: 7},
		{Policy: kind + "users", Name: "user", Number: 1, Requests: 600, Per: time.Minute, Burst: 20, Nodes: 6, By: []authz.Distinct{{Kind: authz.DistinctHeader, Name: "x-user"}}},
		{Policy: kind + "users", Number: 2, Requests: 5, Per: time.Second, Burst: 5, Nodes: 6},
	}
	if diff := cmp.Diff(want, r.Authz["api-0"].Limits); diff != "" {
		t.Errorf("limits (-want +got), 5 nodes count as 6:\n%s", diff)
	}
}
