package e2e

import (
	"errors"
	"fmt"
	"testing"
)

// TestEveryNodeCaptures checks that pods of every node are captured, as clients and as
// servers, whatever cgroup hierarchies the node has, and also by restarted agents. The
// servers are strict: a request that bypasses the mesh is refused.
func TestEveryNodeCaptures(t *testing.T) {
	ns := newNamespace(t, "underlane.io/mesh=enabled")
	apply(t, ns, deployment("a", httpArgs, strict, node("node-1"))+service("a", []string{"80:8080"})+
		deployment("b", httpArgs, strict, node("node-2"))+service("b", []string{"80:8080"}))
	ready(t, ns, "deploy/a", "deploy/b")
	a, b := podOf(t, ns, "a"), podOf(t, ns, "b")
	enrolled(t, ns, a, b)
	captured := func(when string) {
		t.Helper()
		watched(t, []string{"ns/" + ns}, func() error {
			_, err := in(t, ns, a, "/labtest", "get", "http://b/from-a")
			_, other := in(t, ns, b, "/labtest", "get", "http://a/from-b")
			return errors.Join(err, other)
		}, func(lines []string) error {
			for _, path := range []string{":path=/from-a", ":path=/from-b"} {
				for _, end := range []string{"proxy=out", "proxy=in "} {
					if err := has("req ", end, "tls=true", path)(lines); err != nil {
						return fmt.Errorf("%s: %w", when, err)
					}
				}
			}
			return nil
		})
	}
	captured("as installed")
	// A rolling update with less patience than the manifest's: a new agent takes its
	// node over in a second or two. It begins when the agents that it replaces count as
	// available: Kubernetes makes all pods anew at once for those that do not, and may
	// then wait for minutes before it goes on.
	patch := func(spec string) {
		t.Helper()
		kubectl(t, "patch", "-n", system, "daemonset/underlane-agent", "-p", `{"spec": {`+spec+`}}`)
		ready(t, system, "daemonset/underlane-agent")
	}
	patch(`"minReadySeconds": 5`)
	patch(`"template": {"metadata": {"annotations": {"restarted-by": "test"}}}`)
	captured("with new agents")
}
