package whatif

import (
	"fmt"
	"testing"
)

// TestTryExpressions: recorded calls are judged by conditions in CEL. Where one looks at what is
// not recorded, the report is unsure.
func TestTryExpressions(t *testing.T) {
	const manifest = `
apiVersion: policy.underlane.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: p, namespace: shop}
spec:
  targetRefs: [{group: "", kind: Pod, selector: {}}]
  action: ALLOW
  enforcementLevel: Application
  rules:
    - authorization: {type: CEL, cel: {expression: 'source.serviceAccount == "web" && request.method == "GET" && request.path.startsWith("/users/")'}}
    - authorization: {type: CEL, cel: {expression: '%s'}}
`
	for condition, unsure := range map[string]uint64{
		`request.headers["x-role"] == "admin"`: 4, // all that the first rule does not let in, and that carry requests
		`"ops" in auth.claims.groups`:          4,
		`request.host == "other"`:              1, // of the path /{**} it is not known whether the first rule is about it
		`nobody`:                               1,
	} {
		report, err := state(t, "audit").Try(fmt.Appendf(nil, manifest, condition), "shop", recorded())
		if err != nil {
			t.Fatal(err)
		}
		if report.Allowed != 5 || report.Lost != 6 || report.Unsure != unsure || (len(report.Problems) > 0) != (condition == "nobody") {
			t.Errorf("%s: got %+v, want 5 allowed, 6 lost, %d unsure", condition, report, unsure)
		}
	}
}
