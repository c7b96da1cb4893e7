package rig

import (
	"fmt"
	"strings"
)

// policies returns n authorization policies for each server as YAML. The last one lets the client
// make the requests of the works. The others look at requests, and are for accounts that do not exist.
func policies(n int) string {
	var b strings.Builder
	for i := range n {
		account, authorization := fmt.Sprintf("job-%d", i), fmt.Sprintf("{type: Inline, methods: [GET], paths: [{type: PathPrefix, value: /jobs/%d}]}", i)
		if i == n-1 {
			account, authorization = "client", "{type: Inline, methods: [GET, POST], paths: [{type: PathPrefix, value: /}]}"
		}
		for _, server := range []string{"near", "far"} {
			fmt.Fprintf(&b, `---
apiVersion: policy.underlane.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: %[1]s-%[2]d, namespace: %[3]s}
spec:
  targetRefs: [{group: "", kind: Pod, selector: {matchLabels: {app: %[1]s}}}]
  action: ALLOW
  enforcementLevel: Application
  rules: [{sources: [{type: ServiceAccount, serviceAccount: {name: %[4]s}}], authorization: %[5]s}]
`, server, i, inMesh, account, authorization)
		}
	}
	return b.String()
}
