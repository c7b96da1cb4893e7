package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/underlane/underlane/test/lab"
)

// An agent that starts while the controller is away knows no pod: it says that
// it is not ready, its pods fail open or closed, and it takes them in when the
// controller is back.
func TestAgentStartsWithoutController(t *testing.T) {
	t.Parallel()
	closed := clientPod("closed", node1)
	closed.Annotations = map[string]string{"underlane.io/fail-mode": "closed"}
	l := lab.Up(t, lab.Options{}, manifests(clientPod("open", node1), closed, serverPod("web", node2)))
	waitEnrolled(t, l, "default/open", "default/closed", "default/web")
	url := "http://" + l.Pod("web").IP().String() + ":8080/"

	l.KillController()
	l.KillAgent(node1)
	starting := l.Command("start-agent", node1) // returns when the agent is ready
	if err := starting.Start(); err != nil {
		t.Fatal(err)
	}
	l.Eventually(patience, func() error {
		r := l.TryAgent(node1, "status")
		if r.Code != 1 || !strings.Contains(r.Stdout, "Ready         no") {
			return fmt.Errorf("status without a controller: %s", r)
		}
		return nil
	})
	if r := l.TryAgent(node1, "check"); r.Code != 1 || !strings.Contains(r.Stdout, "× agent has state to serve from") {
		t.Errorf("check without a controller: %s", r)
	}
	l.Exec("open", "labtest", "get", url)
	if r := l.TryExec("closed", "labtest", "get", url); r.Code == 0 {
		t.Errorf("a pod that fails closed got through: %s", r)
	}

	l.StartController()
	if err := starting.Wait(); err != nil {
		t.Errorf("start-agent: %v", err)
	}
	waitEnrolled(t, l, "default/open", "default/closed")
	tap := startTap(t, l, node1)
	for _, pod := range []string{"open", "closed"} {
		l.Exec(pod, "labtest", "get", url)
		tap.wait("a request of "+pod+" in the mesh", func(e event) bool {
			return e.RequestInitEvent != nil && e.TLS == "true" && e.Source.Metadata["pod"] == pod
		})
	}
}
