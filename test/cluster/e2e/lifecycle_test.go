package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// report is the JSON of `underlane check`.
type report struct {
	Success    bool
	Categories []struct {
		CategoryName string
		Checks       []struct{ Description, Hint, Error, Result string }
	}
}

func check(t testing.TB, args ...string) report {
	t.Helper()
	out, err := tryUnderlane(t, append([]string{"check", "-o", "json"}, args...)...)
	var r report
	if jsonErr := json.Unmarshal([]byte(out), &r); jsonErr != nil {
		t.Fatalf("check: %v\n%s\n%v", jsonErr, out, err)
	}
	return r
}

func TestCheck(t *testing.T) {
	r := check(t)
	n := 0
	for _, c := range r.Categories {
		for _, line := range c.Checks {
			n++
			if line.Result == "error" {
				t.Errorf("%s: %s: %s", c.CategoryName, line.Description, line.Error)
			}
		}
	}
	if !r.Success || n < 10 {
		t.Errorf("success %v with %d checks, want success and all checks", r.Success, n)
	}
	// A pod that cannot be captured fails the check of its namespace, and the check says
	// what to do.
	ns := newNamespace(t, "underlane.io/mesh=enabled")
	apply(t, ns, deployment("host", clientArgs, podSpec("hostNetwork: true")))
	ready(t, ns, "deploy/host")
	leftOut(t, ns, podOf(t, ns, "host")) // wait until its agent knows it
	var failed []string
	for _, c := range check(t, "--proxy", "-n", ns).Categories {
		for _, line := range c.Checks {
			if line.Result != "success" {
				failed = append(failed, line.Error)
				if line.Hint == "" {
					t.Errorf("%s: got no hint, want one", line.Description)
				}
			}
		}
	}
	if !strings.Contains(strings.Join(failed, "\n"), "host network") {
		t.Errorf("got the failed checks %q, want one about the pod on the host's network", failed)
	}
}

// TestRotation checks that replacing the issuer's certificate under traffic breaks no
// request: until all pods have a certificate of the new one, and afterwards.
func TestRotation(t *testing.T) {
	tr := startTraffic(t)
	pods := append(tr.servers(t), tr.client)
	certificate := func(pod string) string {
		t.Helper()
		return underlane(t, "identity", "-n", tr.ns, strings.TrimPrefix(pod, "pod/"))
	}
	old := map[string]string{}
	for _, pod := range pods {
		old[pod] = certificate(pod)
	}
	kubectl(t, "delete", "secret", "-n", system, "underlane-identity-issuer")
	for _, pod := range pods {
		eventually(t, 150*time.Second, func() error {
			if certificate(pod) == old[pod] {
				return fmt.Errorf("%s still has its old certificate", pod)
			}
			return nil
		})
	}
	tr.check(t, "rotation of the root", 0)
}
